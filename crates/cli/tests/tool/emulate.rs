//! `emulate`.

use crate::support::{Ended, interrupt, json, pattern, piped, run, run_with, xdma};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xdma::card::{Card, CardOptions};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};

/// A card in another process, which is killed on drop.
struct Served {
    child: Child,
    description: Value,
    folder: TempDir,
}

impl Served {
    fn new(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("card");
        let mut child = piped(&format!("emulate --json --socket {} {options}", socket.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let description = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        xdma_testkit::schema::check("xdma-emulate", &description);
        Self { child, description, folder }
    }

    fn option(&self) -> String {
        format!("--card unix:{}", self.folder.path().join("card").display())
    }

    /// Ends it with SIGINT. Returns whether it succeeded and removed its socket.
    fn end(mut self) -> bool {
        interrupt(&self.child);
        self.child.wait().unwrap().success() && !self.folder.path().join("card").exists()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_card_and_its_qemu_options_are_described_as_json() {
    let card =
        Served::new("--logic memory --like alveo --seed 7 --fetch-time 2.5 --switch stop_clears_run=true");
    let description = &card.description;
    assert_eq!(
        (&description["switches"]["stop_clears_run"], &description["logic"], &description["seed"]),
        (&true.into(), &"memory".into(), &7.into())
    );
    assert_eq!((&description["fetch_time_us"], &description["link_rate"]), (&2.5.into(), &Value::Null));
    assert_eq!(description["faults"]["faults"], Value::Array(vec![]));
    let qemu: Vec<_> =
        description["qemu"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
    let device: Value = serde_json::from_str(qemu.last().unwrap()).unwrap();
    assert_eq!((&device["driver"], &device["socket"]["type"]), (&"vfio-user-pci".into(), &"unix".into()));
    assert_eq!(device["socket"]["path"], card.folder.path().join("card").to_str().unwrap());
    run(&format!("write {} --address 3 Cargo.toml", card.option())).good();
    let back = run(&format!("read {} --address 3 --length 12 -", card.option())).good();
    assert_eq!(back, std::fs::read_to_string("Cargo.toml").unwrap()[..12], "the data stays between commands");
    assert!(card.end());
}

#[test]
fn the_card_and_its_qemu_options_are_described_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("card");
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, "").unwrap();
    let (socket, plan) = (socket.display(), plan.display());
    let options = format!("--link-rate 1G --core-rate 5e5 --faults {plan}");
    let mut child = piped(&format!("emulate --socket {socket} {options}"));
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let text = lines.take(10).collect::<Vec<_>>().join("\n");
    child.kill().unwrap();
    child.wait().unwrap();
    for part in [
        "serving an emulated card",
        "AWS F1, application function",
        "logic msm, seed 1, faults: none",
        "timing: link at most 1.07 GB/s in each direction; fetch up to 1µs, completion up to 1µs; core 500000 pairs/s",
        "-object memory-backend-memfd,id=mem,size=2G,share=on",
        "-device '{\"driver\":\"vfio-user-pci\"",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

/// The error is one line, which names the remedy once.
#[test]
fn a_card_whose_process_was_killed_is_reported_once() {
    let mut card = Served::new("--logic memory");
    let mut bench = xdma(&format!("bench --address 0 --time 100 {}", card.option()));
    let pipes = bench.env_remove("RUST_LOG").stdout(Stdio::null()).stderr(Stdio::piped());
    let bench = pipes.spawn().unwrap();
    let opened = || run(&format!("top --once --interval 0.1 --pid {}", bench.id())).out.contains("H2C 0");
    while !opened() {}
    card.child.kill().unwrap();
    let ended = Ended::from(bench.wait_with_output().unwrap());
    let lines: Vec<_> = ended.err.lines().filter(|line| !line.contains("hugepages")).collect();
    assert_eq!((ended.code, lines.len()), (3, 1), "{}", ended.err);
    for part in ["the card is gone", "start that process again, then open the card again"] {
        assert_eq!(lines[0].matches(part).count(), 1, "{}", ended.err);
    }
}

#[test]
fn the_link_rate_is_respected() {
    let rate = 64 << 20;
    let card = Served::new(&format!("--logic memory --link-rate {rate}"));
    let option = card.option();
    let data = pattern(16 << 20);
    let begin = Instant::now();
    run_with(&format!("write {option} --address 0x1003 --channels 0,1 --verify -"), data).good();
    // The data is written and read back over two channels that share the link.
    assert!(begin.elapsed() >= Duration::from_millis(490), "{:?}", begin.elapsed());
    let result = json(&format!("bench {option} --address 0 --sizes 1M --depths 2 --channels 2 --time 0.2"));
    for of in result["throughput"].as_array().unwrap() {
        let directions = if of["direction"] == "both" { 2.0 } else { 1.0 };
        let seen = of["bytes_per_second"].as_f64().unwrap();
        assert!(seen <= 1.01 * directions * f64::from(rate), "{of}");
    }
}

#[test]
fn the_core_rate_is_respected() {
    let (pairs, rate) = (2048, 8192);
    let served = Served::new(&format!("--core-rate {rate}"));
    let socket = served.folder.path().join("card");
    let card = Card::connect(socket, CardOptions::default()).unwrap();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points = Points::from_bytes(&card, &vec![0; 64 * pairs]).unwrap();
    let scalars = Scalars::from_bytes(&card, &vec![1; 32 * pairs], ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&points, &scalars).unwrap();
    let begin = Instant::now();
    let ticket = msm.submit(&job).unwrap();
    msm.wait(ticket, Duration::from_secs(60)).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(245), "{:?}", begin.elapsed());
}

#[test]
fn invalid_options_are_rejected() {
    run("emulate").bad(2, &["--socket"]);
    run("emulate --socket /nowhere/card").bad(1, &["/nowhere/card", "the directory /nowhere does not exist"]);
    run(&format!("emulate --socket /tmp/{}", "long".repeat(40))).bad(1, &["too long for a socket"]);
    run("emulate --socket s --link-rate 0").bad(2, &["must be greater than 0"]);
    run("emulate --socket s --core-rate -1").bad(2, &[]);
    run("emulate --socket s --core-rate fast").bad(2, &["is not a rate"]);
    run("emulate --socket s --fetch-time 1e9").bad(2, &["0 to 1e6"]);
    run("emulate --socket s --synchronous --link-rate 1G").bad(2, &["--synchronous"]);
    run("emulate --socket s --logic memory --core-rate 5").bad(2, &["--logic msm"]);
    run("emulate --socket s --faults /nowhere/plan").bad(1, &["cannot read the fault plan /nowhere/plan"]);
    run("emulate --socket s --faults Cargo.toml").bad(1, &["not a fault plan"]);
    run("emulate --socket s --like f3").bad(2, &["`f3` is not a card", "alveo", ".toml"]);
    run("emulate --socket s --switch colour=1").bad(2, &["`colour=1` is not a switch", "unknown field"]);
    run("emulate --socket s --switch stop_clears_run=3").bad(2, &["not a switch", "boolean"]);
}

/// A file or a symbolic link at the path of a socket is not replaced.
#[test]
fn only_a_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("file"), "precious").unwrap();
    std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
    for name in ["file", "link"] {
        let elsewhere = at("card");
        for option in [
            format!("--socket {}", at(name).display()),
            format!("--socket {} --control {}", elsewhere.display(), at(name).display()),
        ] {
            let mut child = piped(&format!("emulate {option}"));
            let end = Instant::now() + Duration::from_secs(20);
            while child.try_wait().unwrap().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            // If it has not ended on its own, the test fails below.
            let _ = child.kill();
            Ended::from(child.wait_with_output().unwrap())
                .bad(1, &["is not a socket", at(name).to_str().unwrap()]);
            assert_eq!(std::fs::read_to_string(at(name)).unwrap(), "precious", "{option}");
            assert!(at("link").is_symlink());
        }
    }
}
