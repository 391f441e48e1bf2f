//! `cargo xtask fuzz`: the targets of `fuzz/`, without cargo-fuzz and on a stable compiler.

use crate::run::{Run, Workspace, host};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What cargo-fuzz would pass to the compiler: counters on every edge, comparisons traced, AddressSanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1";
/// Megabytes that an input may make the program take, and seconds that it may take.
const LIMITS: [&str; 2] = ["-rss_limit_mb=2048", "-timeout=20"];

/// What is asked for.
pub struct Wish<'a> {
    /// All if none is named.
    pub targets: &'a [String],
    /// How long each runs.
    pub seconds: u32,
    /// Afterwards, keep in the committed corpora what adds to coverage, and nothing else.
    pub keep: bool,
}

/// What came of a target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// Edges covered, and all.
    edges: (u64, u64),
    features: u64,
    /// Where the input lies that made it fail.
    find: Option<String>,
}

pub fn fuzz(wish: &Wish<'_>) -> Result<()> {
    let workspace = Workspace::find();
    let package = workspace.root.join("fuzz");
    let all = targets(&package)?;
    for name in wish.targets {
        ensure!(all.contains(name), "there is no target {name}, but {}", all.join(", "));
    }
    let mut run = Run::new(&workspace, "fuzz")?;
    println!("building the targets");
    let programs = build(&mut run, &package)?;
    println!(
        "{:12} {:>12} {:>8} {:>15} {:>9}  finds",
        "target", "executions", "a second", "edges", "features"
    );
    let mut finds = 0;
    for name in all.iter().filter(|name| wish.targets.is_empty() || wish.targets.contains(name)) {
        let outcome = attack(&mut run, &workspace, &programs.join(name), name, wish)?;
        let Outcome { executions, edges: (covered, edges), features, find } = &outcome;
        let rate = executions / u64::from(wish.seconds.max(1));
        let edges = format!("{covered} of {edges}");
        let find = find.as_deref().unwrap_or("none");
        println!("{name:12} {executions:>12} {rate:>8} {edges:>15} {features:>9}  {find}");
        finds += u32::from(outcome.find.is_some());
    }
    if finds > 0 {
        bail!(
            "{finds} targets failed; their inputs are named above, their output is in target/xtask/fuzz.log"
        );
    }
    Ok(())
}

fn targets(package: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(package.join("fuzz_targets")).context("no fuzz targets")?;
    let name = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<_> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; where they are.
fn build(run: &mut Run, package: &Path) -> Result<PathBuf> {
    let host = host(run)?;
    let mut cargo = run.cargo(&format!("build --release --locked --target {host}"));
    // A stable compiler takes the flags of a nightly one with this.
    cargo.current_dir(package).env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS);
    run.succeed(cargo)?;
    Ok(package.join("target").join(host).join("release"))
}

fn attack(
    run: &mut Run,
    workspace: &Workspace,
    program: &Path,
    name: &str,
    wish: &Wish<'_>,
) -> Result<Outcome> {
    let committed = workspace.root.join("fuzz/corpus").join(name);
    let (found, finds) =
        (workspace.prefix().join("fuzz").join(name), workspace.root.join("fuzz/artifacts").join(name));
    for directory in [&committed, &found, &finds] {
        fs::create_dir_all(directory)?;
    }
    let mut command = Command::new(program);
    command.args(LIMITS).arg("-print_final_stats=1").arg(format!("-max_total_time={}", wish.seconds));
    // New inputs go to the first directory.
    command.arg(format!("-artifact_prefix={}/", finds.display())).args([&found, &committed]);
    command.env("TMPDIR", temporary());
    let outcome = outcome(&run.noise(&mut command)?.0)?;
    if wish.keep && outcome.find.is_none() {
        keep(run, program, &found, &committed)?;
    }
    Ok(outcome)
}

/// Makes of what was found and what is committed the smallest corpus that covers the same.
fn keep(run: &mut Run, program: &Path, found: &Path, committed: &Path) -> Result<()> {
    let smallest = committed.with_extension("new");
    fs::create_dir_all(&smallest)?;
    let mut command = Command::new(program);
    command.args(LIMITS).args(["-merge=1", "-max_len=512"]).args([
        &smallest,
        &committed.into(),
        &found.into(),
    ]);
    run.succeed(command)?;
    fs::remove_dir_all(committed)?;
    Ok(fs::rename(&smallest, committed)?)
}

/// Where files are made and gone a thousand times a second: in memory, if there is such a place.
fn temporary() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// What libFuzzer says of a run.
fn outcome(text: &str) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            outcome.executions = count.trim().parse()?;
        } else if let Some(edges) = number_before(line, " inline 8-bit counters") {
            outcome.edges.1 = edges;
        } else if line.starts_with('#') {
            outcome.edges.0 = number_after(line, "cov: ").unwrap_or(outcome.edges.0);
            outcome.features = number_after(line, "ft: ").unwrap_or(outcome.features);
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            outcome.find = Some(path.trim().into());
        }
    }
    ensure!(outcome.executions > 0 || outcome.find.is_some(), "the target ran nothing");
    Ok(outcome)
}

fn number_after(line: &str, words: &str) -> Option<u64> {
    line.split_once(words)?.1.split(' ').next()?.parse().ok()
}

fn number_before(line: &str, words: &str) -> Option<u64> {
    line.split_once(words)?.0.rsplit(['(', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let text = "INFO: Loaded 1 modules   (64351 inline 8-bit counters): 64351 [0x1, 0x2),\n\
            INFO: Loaded 1 PC tables (64351 PCs): 64351 [0x1,0x2),\n\
            #2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb\n\
            #15798\tDONE   cov: 2591 ft: 8137 corp: 535/104Kb lim: 300 exec/s: 1215 rss: 261Mb\n\
            stat::number_of_executed_units: 15798\n";
        let good = Outcome { executions: 15798, edges: (2591, 64351), features: 8137, find: None };
        assert_eq!(outcome(text).unwrap(), good);
        let bad = "artifact_prefix='a/'; Test unit written to a/crash-1\n";
        assert_eq!(outcome(bad).unwrap().find.as_deref(), Some("a/crash-1"));
        assert!(outcome("error: could not compile\n").is_err());
    }

    #[test]
    fn the_targets_are_those_of_the_package() {
        let names = targets(&Workspace::find().root.join("fuzz")).unwrap();
        assert!(names.contains(&"registers".into()) && names.is_sorted(), "{names:?}");
    }
}
