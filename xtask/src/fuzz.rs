//! `cargo xtask fuzz`: runs the targets of `fuzz/` under cargo-fuzz, with a stable compiler.

use crate::packages;
use crate::run::Run;
use crate::suites::Level;
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::fs;

/// Limits for an input: megabytes of memory and seconds.
const LIMITS: &str = "-rss_limit_mb=2048 -timeout=20";

/// Runs `targets`, or all targets, for `seconds` each. Returns whether none failed. With `keep`, adds new inputs to the committed corpora
/// and reduces these to the inputs that add coverage.
pub fn fuzz(targets: &[String], seconds: u32, keep: bool) -> Result<bool> {
    if let Some(missing) = packages::describe_missing(&["c++", "cargo-fuzz"]) {
        bail!(missing);
    }
    let workspace = Workspace::find();
    let mut run = Run::new(&workspace, Level::Full, "fuzz")?;
    // Makes a stable compiler accept nightly flags.
    run.environment.push(("RUSTC_BOOTSTRAP", "1".into()));
    let names = match targets {
        [] => run.stdout(run.cargo("fuzz list"))?.lines().map(String::from).collect(),
        targets => targets.to_vec(),
    };
    println!("building the targets");
    run.succeed(run.cargo("fuzz build"))?;
    // The targets create thousands of temporary files a second; keep them in memory.
    run.environment.push(("TMPDIR", "/dev/shm".into()));
    let mut passed = true;
    for name in &names {
        passed &= run_target(&mut run, name, seconds, keep)?;
    }
    println!("the output of all targets is in target/xtask/fuzz.log");
    Ok(passed)
}

fn run_target(run: &mut Run, name: &str, seconds: u32, keep: bool) -> Result<bool> {
    let committed = run.workspace.root.join("fuzz/corpus").join(name);
    let found = run.workspace.prefix().join("fuzz").join(name);
    for dir in [&committed, &found] {
        fs::create_dir_all(dir)?;
    }
    let mut fuzz = run.cargo(&format!("fuzz run {name}"));
    // libFuzzer writes new inputs to the first directory.
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

/// Returns the line with the failed input, or else libFuzzer's last statistics.
fn outcome(text: &str) -> &str {
    let failed = text.lines().find(|line| line.contains("Test unit written to "));
    let counts = text.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "));
    failed.or(counts).unwrap_or("did not run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_before_statistics() {
        let done = "#15798\tDONE   cov: 2591 ft: 8137 corp: 535/104Kb lim: 300 exec/s: 1215";
        let good = format!("#2\tINITED cov: 12 ft: 13 corp: 1/1b\n{done}\nDone 15798 runs\n");
        assert_eq!(outcome(&good), done);
        let failed = "artifact_prefix='a/'; Test unit written to a/crash-1";
        assert_eq!(outcome(&format!("{good}{failed}\n")), failed);
        assert_eq!(outcome("error: could not compile\n"), "did not run");
    }
}
