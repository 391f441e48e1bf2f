//! Runs examples as programs on the emulated card, and checks the output of `--json`.

mod common;

use anyhow::{Context, Result, ensure};
use common::report;
use serde_json::Value;

/// Not a multiple of [`CHUNK`], so that the last chunk is shorter than the others.
const PAIRS: u64 = 4100;
const CHUNK: u64 = 256;
/// Size in bytes of one scalar plus one affine point, in the card's format.
const BYTES_PER_PAIR: u64 = 32 + 64;

fn count(report: &Value, key: &str) -> Result<u64> {
    report[key].as_u64().with_context(|| format!("`{key}` is {}, not a count", report[key]))
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number > 0.0)
}

/// Checks that the report describes the card.
fn check_card(report: &Value) -> Result<()> {
    let described = match &report["card"] {
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    };
    ensure!(described, "`card` is {}", report["card"]);
    Ok(())
}

/// Checks the counts of an MSM.
fn check_counts(report: &Value) -> Result<()> {
    for key in ["pairs", "bytes", "descriptors", "doorbells", "register_writes", "register_reads"] {
        count(report, key)?;
    }
    let (doorbells, writes) = (count(report, "doorbells")?, count(report, "register_writes")?);
    ensure!(doorbells <= writes, "{doorbells} doorbells are more than {writes} register writes");
    let (bytes, pairs) = (count(report, "bytes")?, count(report, "pairs")?);
    ensure!(bytes == pairs * BYTES_PER_PAIR, "`bytes` is not {BYTES_PER_PAIR} per pair: {report}");
    Ok(())
}

/// Checks proofs whose four G1 MSMs ran on the card.
fn check_proof(report: &Value) -> Result<()> {
    check_card(report)?;
    let proofs = report["proofs"].as_array().context("`proofs` is not a list")?;
    ensure!(!proofs.is_empty(), "`proofs` is empty");
    for proof in proofs {
        ensure!(proof["verified"] == true, "`verified` is {}", proof["verified"]);
        let msms = proof["msms"].as_array().context("`msms` is not a list")?;
        let mut names: Vec<_> = msms.iter().filter_map(|msm| msm["points"].as_str()).collect();
        names.sort();
        ensure!(names == ["a_query", "b_g1_query", "h_query", "l_query"], "the MSMs are {names:?}");
        for msm in msms {
            ensure!(msm["computed_on"] == "card", "`computed_on` is {}", msm["computed_on"]);
            ensure!(count(msm, "bytes")? == count(msm, "pairs")? * BYTES_PER_PAIR, "wrong `bytes`: {msm}");
            ensure!(is_positive(&msm["seconds"]), "`seconds` is {}", msm["seconds"]);
        }
        ensure!(count(proof, "doorbells")? == 4, "{} doorbells for four MSMs", proof["doorbells"]);
        ensure!(is_positive(&proof["seconds"]), "`seconds` is {}", proof["seconds"]);
        // The scalars of H and the assignment, which is copied once if MSMs start early, and once per MSM otherwise.
        let pairs = |name: &str| {
            let msm = msms.iter().find(|msm| msm["points"] == name).context("no such MSM")?;
            count(msm, "pairs")
        };
        let assignment = match report["overlap"] == true {
            true => pairs("a_query")?,
            false => pairs("a_query")? + pairs("b_g1_query")? + pairs("l_query")?,
        };
        let copied = 32 * (pairs("h_query")? + assignment);
        ensure!(count(proof, "bytes_copied")? == copied, "`bytes_copied` is not {copied}");
    }
    Ok(())
}

fn check_msm(report: &Value, mode: &str, ring: &str) -> Result<()> {
    check_card(report)?;
    check_counts(report)?;
    ensure!(report["verified"] == true, "`verified` is {}", report["verified"]);
    ensure!(report["mode"] == mode && report["ring"] == ring, "not the requested mode and ring: {report}");
    ensure!(count(report, "pairs")? == PAIRS, "`pairs` is not {PAIRS}");
    ensure!(count(report, "chunk")? == CHUNK, "`chunk` is not {CHUNK}");
    // In every mode, the scalars and the points of a chunk need one descriptor each.
    let descriptors = 2 * PAIRS.div_ceil(CHUNK);
    ensure!(count(report, "descriptors")? == descriptors, "`descriptors` is not {descriptors}");
    let expected = match (mode, ring) {
        ("program", "chain") => 1,
        // One write starts the engine, another one adds all credits.
        ("program", _) => 2,
        _ => descriptors,
    };
    let doorbells = count(report, "doorbells")?;
    ensure!(doorbells == expected, "{doorbells} doorbells; the mode needs {expected}");
    let seconds = report["seconds"].as_array().context("`seconds` is not a list")?;
    ensure!(!seconds.is_empty() && seconds.iter().all(is_positive), "`seconds` is {}", report["seconds"]);
    ensure!(is_positive(&report["seconds_result"]), "`seconds_result` is {}", report["seconds_result"]);
    Ok(())
}

#[test]
fn prove_reports_a_verified_proof() -> Result<()> {
    check_proof(&report("prove", "--depth 16")?)?;
    let report = report("prove", "--depth 16 --proofs 2 --overlap")?;
    ensure!(report["overlap"] == true && report["crossover"] == 1, "other options: {report}");
    check_proof(&report)
}

fn msm_reports_its_counts(mode: &str) -> Result<()> {
    for ring in ["credits", "chain"] {
        let options = format!("--pairs {PAIRS} --chunk {CHUNK} --mode {mode} --ring {ring}");
        check_msm(&report("msm", &options)?, mode, ring).context(options)?;
    }
    Ok(())
}

/// `CORE_BUSY` of a card after its part of an MSM of random scalars in canonical form: an addition for each window of each pair, and
/// the reduction.
fn core_cycles(pairs: u64) -> u64 {
    20 * pairs + 534_806
}

#[test]
fn msm_is_divided_over_several_cards() -> Result<()> {
    for options in ["--cards 4", "--card f1 --card alveo --card f1 --card f1"] {
        let report = report("msm", &format!("--pairs {PAIRS} {options}"))?;
        ensure!(report["verified"] == true, "`verified` is {}", report["verified"]);
        let cards = report["cards"].as_array().context("`cards` is not a list")?;
        ensure!(cards.len() == 4 && count(&report, "pairs")? == PAIRS, "{report}");
        for card in cards {
            check_card(card)?;
            let pairs = count(card, "pairs")?;
            ensure!((1024..=1026).contains(&pairs), "the first MSM is not divided equally: {report}");
            ensure!(count(card, "core_cycles")? == core_cycles(pairs), "{report}");
        }
    }
    Ok(())
}

#[test]
fn msm_refuses_contradicting_options_for_several_cards() -> Result<()> {
    for (options, reason) in [
        ("--cards 2 --card f1 --card f1", "requires one emulated `--card`"),
        ("--cards 2 --card 0000:3b:00.0", "0000:3b:00.0 is not one"),
        ("--cards 2 --mode chunked", "only `--mode program`"),
        ("--cards 0", "0 is not in 1..=16"),
    ] {
        let error = report("msm", &format!("--pairs 100 {options}")).unwrap_err().to_string();
        ensure!(error.contains(reason), "{options}: {error}");
    }
    Ok(())
}

#[test]
fn msm_reports_its_counts_in_mode_chunked() -> Result<()> {
    msm_reports_its_counts("chunked")
}

#[test]
fn msm_reports_its_counts_in_mode_two_channel() -> Result<()> {
    msm_reports_its_counts("two-channel")
}

#[test]
fn msm_reports_its_counts_in_mode_program() -> Result<()> {
    msm_reports_its_counts("program")
}

/// Tests of the checks: a correct report passes, and a report with any wrong value does not.
mod checks {
    use super::{check_msm, check_proof};
    use serde_json::{Value, json};

    fn good_proof() -> Value {
        let msm = |name: &str| json!({ "points": name, "pairs": 2, "bytes": 192, "computed_on": "card", "seconds": 0.5 });
        let msms = ["h_query", "l_query", "a_query", "b_g1_query"].map(msm);
        json!({
            "card": "emulated f1", "overlap": false,
            "proofs": [{ "msms": msms, "seconds": 1, "verified": true, "bytes_copied": 256, "doorbells": 4 }]
        })
    }

    fn good_msm() -> Value {
        json!({
            "card": "emulated f1", "pairs": 4100, "mode": "program", "ring": "chain", "chunk": 256,
            "bytes": 393_600, "descriptors": 34, "doorbells": 1, "register_writes": 5, "register_reads": 1,
            "seconds": [0.1], "seconds_result": 0.2, "verified": true
        })
    }

    #[test]
    fn a_proof_must_be_verified_and_computed_by_the_card() {
        check_proof(&good_proof()).unwrap();
        for (path, value) in [
            ("/card", json!("")),
            ("/overlap", json!(true)),
            ("/proofs", json!([])),
            ("/proofs/0/verified", json!(false)),
            ("/proofs/0/doorbells", json!(3)),
            ("/proofs/0/bytes_copied", json!(255)),
            ("/proofs/0/seconds", json!(0)),
            ("/proofs/0/msms", json!([])),
            ("/proofs/0/msms/0/computed_on", json!("CPU: below crossover")),
            ("/proofs/0/msms/1/points", json!("h_query")),
            ("/proofs/0/msms/2/bytes", json!(191)),
            ("/proofs/0/msms/3/seconds", json!(0)),
        ] {
            let mut report = good_proof();
            *report.pointer_mut(path).unwrap() = value;
            assert!(check_proof(&report).is_err(), "{path}");
        }
    }

    #[test]
    fn an_msm_must_be_the_requested_one() {
        check_msm(&good_msm(), "program", "chain").unwrap();
        for (key, value) in [
            ("verified", json!(null)),
            ("mode", json!("chunked")),
            ("ring", json!("credits")),
            ("pairs", json!(4099)),
            ("chunk", json!("256")),
            ("bytes", json!(393_599)),
            ("descriptors", json!(35)),
            ("doorbells", json!(2)),
            ("register_reads", json!(-1)),
            ("seconds", json!([])),
            ("seconds_result", json!(null)),
        ] {
            let mut report = good_msm();
            report[key] = value;
            assert!(check_msm(&report, "program", "chain").is_err(), "{key}");
        }
        let mut credits = good_msm();
        credits["ring"] = json!("credits");
        assert!(check_msm(&credits, "program", "credits").is_err());
        credits["doorbells"] = json!(2);
        check_msm(&credits, "program", "credits").unwrap();
    }
}

/// Runs examples on the simulated image for F2: the engine alone in RTL, and with the MSM design.
#[cfg(feature = "rtl-f2")]
mod f2 {
    use super::report;
    use anyhow::{Result, ensure};

    #[test]
    fn a_proof_is_verified() -> Result<()> {
        super::check_proof(&report("prove", "--card f2 --depth 16")?)
    }

    #[test]
    fn a_proof_of_the_whole_image_is_verified() -> Result<()> {
        super::check_proof(&report("prove", "--card f2 --logic rtl --depth 16")?)
    }

    #[test]
    fn the_whole_image_computes_the_right_sum_in_each_mode() -> Result<()> {
        for mode in ["program", "chunked"] {
            let options =
                format!("--card f2 --logic rtl --pairs 1500 --chunk 256 --mode {mode} --montgomery");
            let report = report("msm", &options)?;
            ensure!(report["verified"] == true, "{mode}: `verified` is {}", report["verified"]);
        }
        Ok(())
    }
}

/// Runs examples, including the feed study, on the simulated design.
#[cfg(feature = "rtl")]
mod rtl {
    use super::report;
    use anyhow::{Context, Result, ensure};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    /// Largest share of the time in which a core may wait for data.
    const MAX_IDLE: f64 = 0.001;
    /// Cycles of the design per microsecond.
    const CYCLES_PER_US: f64 = 250.0;

    #[test]
    fn msm_computes_the_right_sum_in_each_mode() -> Result<()> {
        for mode in ["program", "two-channel", "chunked"] {
            let options = format!("--logic rtl --pairs 2500 --chunk 256 --mode {mode} --montgomery");
            let report = report("msm", &options)?;
            ensure!(report["verified"] == true, "{mode}: `verified` is {}", report["verified"]);
        }
        Ok(())
    }

    #[test]
    fn prove_reports_a_verified_proof() -> Result<()> {
        super::check_proof(&report("prove", "--logic rtl --depth 16 --overlap")?)
    }

    #[test]
    fn the_cost_of_host_latency_matches_the_formula() -> Result<()> {
        study("--mode chunked --chunk 256,512,1024 --latency-us 10,30,50", 9, check_formula)
    }

    #[test]
    fn a_program_keeps_the_core_fed_despite_latency_and_jitter() -> Result<()> {
        study("--mode program --chunk 512 --latency-us 0,10,50 --jitter 0,3", 6, check_fed)
    }

    #[test]
    fn a_program_keeps_the_real_core_fed() -> Result<()> {
        study("--core real --mode program --chunk 512 --latency-us 50 --jitter 3", 1, check_fed)
    }

    #[test]
    fn chunks_larger_than_the_fifos_deadlock() -> Result<()> {
        study("--mode chunked,two-channel,program --chunk 2048 --latency-us 2", 3, check_deadlock)
    }

    /// Runs the study with FIFOs of 1,024 elements and 2^16 pairs. There must be `count` runs, and each must pass `check`.
    fn study(options: &str, count: usize, check: fn(&Value) -> Result<()>) -> Result<()> {
        let runs = report("feed_study", &format!("--depth 1024 --pairs 65536 {options}"))?;
        let runs = runs.as_array().context("standard output is not a list of runs")?;
        ensure!(runs.len() == count, "{} runs instead of {count}", runs.len());
        runs.iter()
            .try_for_each(|run| check_schema(run).and_then(|()| check(run)).with_context(|| run.to_string()))
    }

    /// Checks that a run has the members of the schema and their types. A validator would be another dependency of the examples.
    fn check_schema(run: &Value) -> Result<()> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas/example-feed_study.json");
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let of = schema["items"]["properties"].as_object().context("the schema has no properties")?;
        let run = run.as_object().context("a run is not an object")?;
        let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
        ensure!(names(run) == names(of), "the members differ from those of {path}");
        for (name, schema) in of {
            let value = &run[name];
            let is_valid = match schema["type"].as_str() {
                Some("string") => value.is_string(),
                Some("boolean") => value.is_boolean(),
                Some("integer") => value.is_u64(),
                Some("number") => value.is_number(),
                _ => schema["enum"].as_array().is_some_and(|allowed| allowed.contains(value)),
            };
            ensure!(is_valid, "`{name}` is {value}, not {schema}");
        }
        Ok(())
    }

    fn number(run: &Value, key: &str) -> Result<f64> {
        run[key].as_f64().with_context(|| format!("`{key}` is {}, not a number", run[key]))
    }

    /// Checks the cycles per pair if the host sends one chunk after another. A chunk of up to half a FIFO arrives while the core
    /// works; a chunk of a whole FIFO fits only once the FIFO is empty.
    fn check_formula(run: &Value) -> Result<()> {
        let (chunk, depth) = (number(run, "chunk")?, number(run, "depth")?);
        let (core, latency) =
            (number(run, "core_cycles_per_pair")?, CYCLES_PER_US * number(run, "latency_us")?);
        let expected = match chunk <= depth / 2.0 {
            true => core.max((2.0 * latency + 1.5 * chunk) / chunk),
            false => core + latency / chunk,
        };
        let seen = number(run, "cycles")? / number(run, "pairs")?;
        ensure!(run["verified"] == true, "the result is wrong");
        ensure!((seen / expected - 1.0).abs() < 0.02, "{seen:.2} cycles per pair, not {expected:.2}");
        Ok(())
    }

    fn check_fed(run: &Value) -> Result<()> {
        let idle = number(run, "core_idle")?;
        ensure!(run["verified"] == true, "the result is wrong");
        ensure!(
            (0.0..=MAX_IDLE).contains(&idle),
            "the core is idle for {idle} of the time, more than {MAX_IDLE}"
        );
        Ok(())
    }

    fn check_deadlock(run: &Value) -> Result<()> {
        ensure!(run["deadlock"] == true, "no deadlock");
        Ok(())
    }

    #[test]
    fn the_checks_reject_wrong_runs() {
        let good = json!({
            "chunk": 512, "depth": 1024, "core_cycles_per_pair": 16, "latency_us": 30, "pairs": 1000,
            "cycles": 30_700, "core_idle": 0.0005, "verified": true, "deadlock": false
        });
        check_formula(&good).unwrap();
        check_fed(&good).unwrap();
        assert!(check_deadlock(&good).is_err());
        let wrong = |key: &str, value: Value| {
            let mut run = good.clone();
            run[key] = value;
            run
        };
        for (key, value) in [("cycles", json!(28_000)), ("verified", json!(false)), ("chunk", json!(1024))] {
            assert!(check_formula(&wrong(key, value)).is_err(), "{key}");
        }
        for (key, value) in
            [("core_idle", json!(0.002)), ("core_idle", json!(null)), ("verified", json!(false))]
        {
            assert!(check_fed(&wrong(key, value)).is_err(), "{key}");
        }
    }
}
