//! The driver against the design itself, and the feed study.

use super::Suite;
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub const SUITE: Suite = Suite {
    name: "rtl",
    about: "the driver and the feed study on the simulated design",
    needs: &["c++", "cc", "cargo-clippy", "verilator"],
    wants: &[],
    run: |run| {
        run.check("clippy", |run| {
            let targets = "--lib --bins --test rtl --example msm --example prove --example feed_study";
            run.succeed(run.cargo(&format!("clippy --release --features rtl,cli {targets} -- -D warnings")))
        });
        run.cargo_test("--release --features rtl --test rtl")?;
        for mode in ["program", "two-channel", "chunked"] {
            run.check(&format!("msm --logic rtl, {mode}"), |run| {
                let options = format!("--logic rtl --pairs 2500 --chunk 256 --mode {mode} --montgomery");
                let report: Value = serde_json::from_str(&example(run, "msm", &options)?)?;
                ensure!(report["verified"] == true, "`verified` is {}", report["verified"]);
                Ok(())
            });
        }
        run.check("prove --logic rtl", |run| {
            let report: Value = serde_json::from_str(&example(run, "prove", "--logic rtl --depth 16")?)?;
            ensure!(report["proof_verified"] == true, "`proof_verified` is {}", report["proof_verified"]);
            Ok(())
        });
        run.check("the host's latency is what the formula says", |run| {
            study(run, "--mode chunked --chunk 256,512,1024 --latency-us 10,30,50", 9, formula)
        });
        run.check("a program keeps the core fed, whatever the host does", |run| {
            study(run, "--mode program --chunk 512 --latency-us 0,10,50 --jitter 0,3", 6, fed)
        });
        run.check("the real core too", |run| {
            study(run, "--core real --mode program --chunk 512 --latency-us 50 --jitter 3", 1, fed)
        });
        run.check("chunks beyond the FIFOs deadlock", |run| {
            study(run, "--mode chunked,two-channel,program --chunk 2048 --latency-us 2", 3, deadlocked)
        });
        Ok(())
    },
};

/// Bound on the share of time in which a fed core waits.
const IDLE: f64 = 0.001;

fn example(run: &mut Run, name: &str, options: &str) -> Result<String> {
    run.stdout(
        run.cargo(&format!("run --release --quiet --features rtl --example {name} -- --json {options}")),
    )
}

/// Runs of the study with FIFOs of 1,024 and 2^16 pairs; each of so many must pass.
fn study(run: &mut Run, options: &str, count: usize, check: fn(&Value) -> Result<()>) -> Result<()> {
    let text = example(run, "feed_study", &format!("--depth 1024 --pairs 65536 {options}"))?;
    let runs: Vec<Value> = serde_json::from_str(&text).context("standard output is no list of runs")?;
    ensure!(runs.len() == count, "{} runs instead of {count}", runs.len());
    runs.iter().try_for_each(|run| check(run).with_context(|| run.to_string()))
}

fn number(run: &Value, key: &str) -> Result<f64> {
    run[key].as_f64().with_context(|| format!("`{key}` is {}, no number", run[key]))
}

/// Cycles a pair when a host feeds by turns: half a FIFO or less must arrive while the core works; a whole one only once it is empty.
fn formula(run: &Value) -> Result<()> {
    let (chunk, depth) = (number(run, "chunk")?, number(run, "depth")?);
    let (core, latency) = (number(run, "core_cycles_per_pair")?, 250.0 * number(run, "latency_us")?);
    let expected = match chunk <= depth / 2.0 {
        true => core.max((2.0 * latency + 1.5 * chunk) / chunk),
        false => core + latency / chunk,
    };
    let seen = number(run, "cycles")? / number(run, "pairs")?;
    ensure!(run["verified"] == true, "a wrong result");
    ensure!((seen / expected - 1.0).abs() < 0.02, "{seen:.2} cycles a pair, not {expected:.2}");
    Ok(())
}

fn fed(run: &Value) -> Result<()> {
    let idle = number(run, "core_idle")?;
    ensure!(run["verified"] == true, "a wrong result");
    ensure!((0.0..=IDLE).contains(&idle), "the core is idle for {idle} of the time, more than {IDLE}");
    Ok(())
}

fn deadlocked(run: &Value) -> Result<()> {
    ensure!(run["deadlock"] == true, "no deadlock");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runs_are_judged() {
        let good = json!({
            "chunk": 512, "depth": 1024, "core_cycles_per_pair": 16, "latency_us": 30, "pairs": 1000, "cycles": 30_700,
            "core_idle": 0.0005, "verified": true, "deadlock": false
        });
        formula(&good).unwrap();
        fed(&good).unwrap();
        assert!(deadlocked(&good).is_err());
        for (key, value) in [("cycles", json!(28_000)), ("verified", json!(false)), ("chunk", json!(1024))] {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(formula(&bad).is_err(), "{key}");
        }
        for (key, value) in
            [("core_idle", json!(0.002)), ("core_idle", json!(null)), ("verified", json!(false))]
        {
            let mut bad = good.clone();
            bad[key] = value;
            assert!(fed(&bad).is_err(), "{key}");
        }
    }
}
