//! `bench`.

use crate::support::{Ended, interrupt, json, memory, piped, run};
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A small benchmark with figures of every kind.
const SMALL: &str = "bench --sizes 64,100K --depths 1,2 --channels 1,2 --time 0.02";

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list {name}: {value}"))
}

/// Writes a result to a file.
fn save(folder: &TempDir, name: &str, result: &Value) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, result.to_string()).unwrap();
    path
}

fn compare(before: &Path, after: &Path, options: &str) -> String {
    format!("bench compare {} {} {options}", before.display(), after.display())
}

#[test]
fn figures_of_every_kind() {
    let result = json(&format!("{SMALL} --address 0x1003 --logic memory"));
    let shape = |of: &Value| (of["direction"].as_str().unwrap().to_owned(), of["bytes"].as_u64().unwrap());
    let latency: Vec<_> = list(&result, "latency").iter().map(shape).collect();
    let expected = [("H2C", 64), ("H2C", 102_400), ("C2H", 64), ("C2H", 102_400)];
    assert_eq!(latency, expected.map(|(direction, bytes)| (direction.to_owned(), bytes)));
    for of in list(&result, "latency") {
        for kind in ["submit", "completion", "total"] {
            assert_eq!(of[kind]["samples"], of["total"]["samples"]);
            assert_eq!(list(&of[kind], "rounds").len(), 5);
            percentiles(&of[kind]);
        }
        let max = |kind: &str| of[kind]["max"].as_u64().unwrap();
        assert!(max("total") >= max("submit").max(max("completion")), "{of}");
    }
    let count = |sweep: &str| list(&result, "throughput").iter().filter(|of| of["sweep"] == sweep).count();
    assert_eq!([count("size"), count("depth"), count("channels")], [4, 4, 6]);
    for of in list(&result, "throughput") {
        let rounds: Vec<_> = list(of, "rounds").iter().map(|rate| rate.as_f64().unwrap()).collect();
        let median = of["bytes_per_second"].as_f64().unwrap();
        assert!(rounds.len() == 5 && rounds.contains(&median) && median > 0.0, "{of}");
        assert!(of["cpu"].as_f64().unwrap() <= 1.1 && of["transfers"].as_u64().unwrap() >= 5, "{of}");
    }
    let machine = &result["machine"];
    assert_eq!(
        (&machine["card"]["emulated"], &machine["card"]["identity"]),
        (&object!(true), &object!("1d0f:f001"))
    );
    assert!(machine["processors"].as_u64().unwrap() > 0 && !machine["kernel"].as_str().unwrap().is_empty());
    assert!(list(&result, "warnings")[0].as_str().unwrap().contains("nothing about silicon"));
}

/// Checks that percentiles rise, and that they are reported only if ten samples lie above.
fn percentiles(times: &Value) {
    let samples = times["samples"].as_u64().unwrap() as f64;
    let mut last = times["min"].as_u64().unwrap();
    for pair in list(times, "percentiles") {
        let percentile = pair[0].as_f64().unwrap();
        let above = samples * (100.0 - percentile) / 100.0;
        match pair[1].as_u64() {
            Some(time) => {
                assert!(time >= last && (percentile == 50.0 || above > 9.999), "{times}");
                last = time;
            }
            None => assert!(above < 10.001, "{times}"),
        }
    }
    assert!(last <= times["max"].as_u64().unwrap());
}

#[test]
fn page_and_log() {
    let folder = tempfile::tempdir().unwrap();
    let (page, log) = (folder.path().join("page.html"), folder.path().join("log"));
    let result = json(&format!("{SMALL} --html {} --log {}", page.display(), log.display()));
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<figure>").count(), 8, "plots");
    assert!(page.contains("Throughput by size") && page.contains("(emulated, not silicon)"));
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !outside.contains("http") && !outside.contains("src=") && !outside.contains("url("),
        "the page is self-contained"
    );
    let log = std::fs::read(log).unwrap();
    let mut found = BTreeMap::new();
    for entry in IntervalLogIterator::new(&log) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let bytes = base64(interval.encoded_histogram());
            let histogram = Deserializer::new().deserialize::<u64, _>(&mut bytes.as_slice()).unwrap();
            found.insert(interval.tag().unwrap().as_str().to_owned(), histogram);
        }
    }
    assert_eq!(found.len(), 12, "{:?}", found.keys());
    for of in list(&result, "latency") {
        let (direction, bytes) = (of["direction"].as_str().unwrap(), &of["bytes"]);
        let histogram = &found[&format!("{direction}-{bytes}-total")];
        assert_eq!(object!(histogram.len()), of["total"]["samples"]);
        assert_eq!(object!(histogram.value_at_percentile(50.0)), of["total"]["percentiles"][0][1]);
    }
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<_> = text.bytes().filter(|&c| c != b'=').map(|c| u32::from(digit(c))).collect();
    let three = |four: &[u32]| {
        let word = four.iter().enumerate().fold(0, |word, (at, digit)| word | digit << (18 - 6 * at));
        word.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(three).collect()
}

#[test]
fn text_has_figures_and_explains_missing_percentiles() {
    let text = run(&format!("{SMALL} --cpu 0 --wait interrupt")).good();
    for part in [
        "pinned to processor 0",
        "wait mode interrupt",
        "too few samples: p",
        "Throughput by channels",
        "silicon",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    let quick = json("bench --quick");
    assert_eq!(list(&quick, "latency").len(), 6);
}

#[test]
fn two_results_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let result = json(SMALL);
    let before = save(&folder, "before.json", &result);
    let same = json(&compare(&before, &before, ""));
    let rows = list(&same, "rows");
    assert_eq!(rows.len(), list(&result, "latency").len() + list(&result, "throughput").len());
    assert!(rows.iter().all(|row| row["verdict"] == "noise" && row["ratio"] == 1.0), "{same}");
    assert_eq!(same["emulated"], true);
    // The guide recommends this.
    assert_eq!(result["machine"]["card"]["wait"], "hybrid");
    let mut faster = result.clone();
    let scale = |value: &mut Value, by: f64| *value = object!(value.as_f64().unwrap() * by);
    let first = &mut faster["throughput"][0];
    scale(&mut first["bytes_per_second"], 1000.0);
    first["rounds"].as_array_mut().unwrap().iter_mut().for_each(|round| scale(round, 1000.0));
    let slow = faster["latency"][0]["total"]["rounds"].as_array_mut().unwrap();
    slow.iter_mut().for_each(|round| scale(round, 1000.0));
    faster["machine"]["kernel"] = object!("<b>0.01</b>");
    let after = save(&folder, "after.json", &faster);
    let page = folder.path().join("page.html");
    let text = run(&compare(&before, &after, &format!("--html {}", page.display()))).good();
    assert!(text.contains("1 better, 1 worse, "), "{text}");
    assert!(text.contains("different kernel"), "{text}");
    assert_eq!(text.matches("silicon").count(), 1, "a warning of both results appears once: {text}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<figure>").count(), 4);
    assert!(page.contains("class=\"better\"") && page.contains("class=\"worse\""), "{page}");
    // The verdicts are grey, because there is a warning that the card is emulated.
    assert!(page.contains("<table class=\"doubtful\">"), "{page}");
    assert!(page.contains("&lt;b&gt;0.01") && !page.contains("<b>0.01"), "{page}");
}

#[test]
fn other_files_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let good = json("bench --sizes 64 --depths 1 --channels 1 --time 0.01");
    let path = save(&folder, "good.json", &good);
    let bad = |name: &str, change: &dyn Fn(&mut Value), parts: &[&str]| {
        let mut other = good.clone();
        change(&mut other);
        let other = save(&folder, name, &other);
        run(&compare(&path, &other, "")).bad(1, parts);
    };
    bad("old.json", &|other| other["version"] = object!(0), &["old.json", "version 0", "measure again"]);
    bad(
        "else.json",
        &|other| other["format"] = object!("x"),
        &["not a result of xdma bench", "xdma bench --json"],
    );
    bad(
        "empty.json",
        &|other| (other["latency"], other["throughput"]) = (object!([]), object!([])),
        &["no figures"],
    );
    bad("part.json", &|other| other["machine"] = object!({}), &["missing field"]);
    bad(
        "sizes.json",
        &|other| {
            other["throughput"] = object!([]);
            other["latency"].as_array_mut().unwrap().iter_mut().for_each(|of| of["bytes"] = object!(128));
        },
        &["nothing in common", "--sizes"],
    );
    std::fs::write(folder.path().join("text"), "hello").unwrap();
    run(&compare(&path, &folder.path().join("text"), ""))
        .bad(1, &["not a result of xdma bench", "expected value"]);
    run(&compare(&path, &folder.path().join("none"), "")).bad(1, &["cannot read", "none"]);
    run("bench compare one").bad(2, &["<AFTER>"]);
}

#[test]
fn impossible_measurements_are_rejected() {
    let (_card, option) = memory();
    run(&format!("bench {option}")).bad(2, &["--address is missing", "may be overwritten"]);
    run("bench --logic msm").bad(2, &["--address is missing"]);
    run("bench --sizes 0").bad(2, &["1 byte to 1G"]);
    run("bench --sizes 2G").bad(2, &["1 byte to 1G"]);
    run("bench --time 0").bad(2, &["not a number of seconds"]);
    run("bench --depths 0").bad(2, &["--depths"]);
    run("bench --channels 0..1").bad(2, &["`0..1` is not a number from 1 to 4", "1,2,4"]);
    run("bench --channels 5").bad(2, &["--channels"]);
    run("bench --wait never").bad(2, &["spin-then-yield"]);
    run("bench --cpu 4000").bad(1, &["processor 4000", "nproc"]);
    run("bench --address 0xffffffffffffffff").bad(2, &["64-bit address space"]);
    run("bench --logic loopback --address 0 --quick").bad(3, &["AXI-Stream"]);
    run("bench --quick --html /dev/null/page").bad(1, &["/dev/null/page"]);
    run("bench --quick --html same --log same").bad(2, &["same file"]);
    let beyond = run("bench --logic msm --address 0 --time 0.01 --sizes 64,64K");
    beyond.bad(5, &["AXI decode error", "64 KiB of memory at card address 0x0", "--sizes"]);
}

#[test]
fn ctrl_c_ends_the_measurement() {
    let (card, option) = memory();
    let child = piped(&format!("bench {option} --address 0 --sizes 64 --time 60"));
    let start = Instant::now();
    while card.counters().descriptors_fetched == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "the measurement never began");
        sleep(Duration::from_millis(5));
    }
    interrupt(&child);
    Ended::from(child.wait_with_output().unwrap()).bad(130, &["interrupted; the card is idle"]);
}
