//! `cargo xtask fuzz`: the targets of `fuzz/` under cargo-fuzz, on a stable compiler.

use crate::packages;
use crate::run::Run;
use crate::suites::Level;
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::fs;

/// Limits of an input: megabytes that it may make the program allocate, and seconds that it may take.
const LIMITS: &str = "-rss_limit_mb=2048 -timeout=20";

/// Runs `targets`, or all, for `seconds` each; whether all survived. With `keep` the committed corpora are then reduced to inputs that
/// add to coverage, new ones included.
pub fn fuzz(targets: &[String], seconds: u32, keep: bool) -> Result<bool> {
    if let Some(missing) = packages::explain(&["c++", "cargo-fuzz"]) {
        bail!(missing);
    }
    let workspace = Workspace::find();
    let mut run = Run::new(&workspace, Level::Full, "fuzz")?;
    // A stable compiler accepts the flags of a nightly one with this.
    run.environment.push(("RUSTC_BOOTSTRAP", "1".into()));
    let names = match targets {
        [] => run.stdout(run.cargo("fuzz list"))?.lines().map(String::from).collect(),
        targets => targets.to_vec(),
    };
    println!("building the targets");
    run.succeed(run.cargo("fuzz build"))?;
    // Thousands of temporary files a second stay in memory.
    run.environment.push(("TMPDIR", "/dev/shm".into()));
    let mut survived = true;
    for name in &names {
        survived &= attack(&mut run, name, seconds, keep)?;
    }
    println!("the output of all targets is in target/xtask/fuzz.log");
    Ok(survived)
}

fn attack(run: &mut Run, name: &str, seconds: u32, keep: bool) -> Result<bool> {
    let committed = run.workspace.root.join("fuzz/corpus").join(name);
    let found = run.workspace.prefix().join("fuzz").join(name);
    for folder in [&committed, &found] {
        fs::create_dir_all(folder)?;
    }
    let mut fuzz = run.cargo(&format!("fuzz run {name}"));
    // New inputs go to the first folder.
    fuzz.args([&found, &committed]).arg("--").args(LIMITS.split(' '));
    let (text, status) = run.output(fuzz.arg(format!("-max_total_time={seconds}")))?;
    println!("{name}: {}", outcome(&text));
    if keep && status.success() {
        let mut merge = run.cargo(&format!("fuzz run {name}"));
        merge.args([&committed, &found]).args(["--", "-merge=1", "-max_len=512"]);
        run.succeed(merge)?;
        run.succeed(run.cargo(&format!("fuzz cmin {name}")))?;
    }
    Ok(status.success())
}

/// The input that failed, or else libFuzzer's last counts.
fn outcome(text: &str) -> &str {
    let failed = text.lines().find(|line| line.contains("Test unit written to "));
    let counts = text.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "));
    failed.or(counts).unwrap_or("ran nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_matters_is_shown() {
        let done = "#15798\tDONE   cov: 2591 ft: 8137 corp: 535/104Kb lim: 300 exec/s: 1215";
        let good = format!("#2\tINITED cov: 12 ft: 13 corp: 1/1b\n{done}\nDone 15798 runs\n");
        assert_eq!(outcome(&good), done);
        let failed = "artifact_prefix='a/'; Test unit written to a/crash-1";
        assert_eq!(outcome(&format!("{good}{failed}\n")), failed);
        assert_eq!(outcome("error: could not compile\n"), "ran nothing");
    }
}
