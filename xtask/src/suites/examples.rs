//! The examples of the README, judged by the JSON that they print.

use super::Suite;
use crate::run::Run;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub const SUITE: Suite = Suite {
    name: "examples",
    about: "a proof and MSMs in each mode on the emulated card",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        run.check("prove --depth 16", |run| proof(&object(run, "prove", "--depth 16")?));
        for mode in ["chunked", "two-channel", "program"] {
            for ring in ["credits", "chain"] {
                let options = format!("--pairs {PAIRS} --chunk {CHUNK} --mode {mode} --ring {ring}");
                run.check(&format!("msm {mode} {ring}"), |run| {
                    msm(&object(run, "msm", &options)?, mode, ring)
                });
            }
        }
        Ok(())
    },
};

/// Not a multiple of [`CHUNK`]: the last chunk is a short one.
const PAIRS: u64 = 4100;
const CHUNK: u64 = 256;
/// A scalar and an affine point on the wire.
const BYTES_A_PAIR: u64 = 32 + 64;

/// Runs an example with `--json`; it prints one object and nothing else.
fn object(run: &mut Run, example: &str, options: &str) -> Result<Value> {
    let text =
        run.stdout(run.cargo(&format!("run --release --quiet --example {example} -- --json {options}")))?;
    let value: Value = serde_json::from_str(&text).context("standard output is not one JSON object")?;
    ensure!(value.is_object(), "standard output is JSON, but no object");
    Ok(value)
}

fn proof(report: &Value) -> Result<()> {
    described_card(report)?;
    ensure!(report["proof_verified"] == true, "`proof_verified` is {}", report["proof_verified"]);
    let msms = report["msms"].as_array().context("`msms` is no list")?;
    ensure!(!msms.is_empty(), "`msms` is empty: the card computed nothing");
    for msm in msms {
        counts(msm)?;
        let pairs = number(msm, "pairs")?;
        ensure!(number(msm, "bytes")? == pairs * BYTES_A_PAIR, "`bytes` is not {BYTES_A_PAIR} a pair: {msm}");
        ensure!(
            pairs == 0 || number(msm, "doorbells")? > 0,
            "pairs came to the card without a doorbell: {msm}"
        );
        // Over vfio-user every register access is at least one message.
        let accesses = number(msm, "register_writes")? + number(msm, "register_reads")?;
        ensure!(number(msm, "system_calls")? >= accesses, "fewer system calls than register accesses: {msm}");
        ensure!(msm["seconds"].as_f64().is_some_and(|s| s > 0.0), "`seconds` is {}", msm["seconds"]);
    }
    Ok(())
}

fn msm(report: &Value, mode: &str, ring: &str) -> Result<()> {
    described_card(report)?;
    counts(report)?;
    ensure!(report["verified"] == true, "`verified` is {}", report["verified"]);
    ensure!(
        report["mode"] == mode && report["ring"] == ring,
        "another mode or ring than asked for: {report}"
    );
    ensure!(number(report, "pairs")? == PAIRS, "`pairs` is not {PAIRS}");
    ensure!(number(report, "chunk")? == CHUNK, "`chunk` is not {CHUNK}");
    ensure!(number(report, "bytes")? == PAIRS * BYTES_A_PAIR, "`bytes` is not {BYTES_A_PAIR} a pair");
    // Scalars and points of each chunk are a descriptor each, whatever the mode.
    let descriptors = 2 * PAIRS.div_ceil(CHUNK);
    ensure!(number(report, "descriptors")? == descriptors, "`descriptors` is not {descriptors}");
    let doorbells = number(report, "doorbells")?;
    let expected = match (mode, ring) {
        ("program", "chain") => 1,
        // A list of its own: Run, then all its credits by one write.
        ("program", _) => 2,
        _ => descriptors,
    };
    ensure!(doorbells == expected, "{doorbells} doorbells where the mode needs {expected}");
    let seconds = report["seconds"].as_array().context("`seconds` is no list")?;
    ensure!(!seconds.is_empty() && seconds.iter().all(is_positive), "`seconds` is {}", report["seconds"]);
    ensure!(is_positive(&report["seconds_result"]), "`seconds_result` is {}", report["seconds_result"]);
    Ok(())
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number > 0.0)
}

fn described_card(report: &Value) -> Result<()> {
    match &report["card"] {
        Value::String(text) if !text.is_empty() => Ok(()),
        Value::Object(fields) if !fields.is_empty() => Ok(()),
        other => bail!("`card` says nothing: {other}"),
    }
}

/// The counts that every report has.
fn counts(report: &Value) -> Result<()> {
    for key in ["pairs", "bytes", "descriptors", "doorbells", "register_writes", "register_reads"] {
        number(report, key)?;
    }
    let (doorbells, writes) = (number(report, "doorbells")?, number(report, "register_writes")?);
    ensure!(doorbells <= writes, "{doorbells} doorbells are more than {writes} register writes");
    Ok(())
}

fn number(report: &Value, key: &str) -> Result<u64> {
    report[key].as_u64().with_context(|| format!("`{key}` is {}, not a count", report[key]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good_proof() -> Value {
        json!({
            "card": "emulated f1", "proof_verified": true,
            "msms": [{
                "pairs": 2, "bytes": 192, "descriptors": 2, "doorbells": 1, "register_writes": 5,
                "register_reads": 1, "system_calls": 12, "seconds": 0.5
            }]
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
    fn good_reports_pass() {
        proof(&good_proof()).unwrap();
        msm(&good_msm(), "program", "chain").unwrap();
    }

    #[test]
    fn a_proof_must_be_verified_and_made_by_the_card() {
        for (path, value) in [
            ("/proof_verified", json!(false)),
            ("/card", json!("")),
            ("/msms", json!([])),
            ("/msms/0/bytes", json!(191)),
            ("/msms/0/doorbells", json!(0)),
            ("/msms/0/system_calls", json!(5)),
            ("/msms/0/seconds", json!(0)),
        ] {
            let mut report = good_proof();
            *report.pointer_mut(path).unwrap() = value;
            assert!(proof(&report).is_err(), "{path}");
        }
    }

    #[test]
    fn an_msm_must_be_what_was_asked_for() {
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
            assert!(msm(&report, "program", "chain").is_err(), "{key}");
        }
        assert!(msm(&good_msm(), "program", "credits").is_err());
        let mut credits = good_msm();
        credits["ring"] = json!("credits");
        assert!(msm(&credits, "program", "credits").is_err());
        credits["doorbells"] = json!(2);
        msm(&credits, "program", "credits").unwrap();
    }
}
