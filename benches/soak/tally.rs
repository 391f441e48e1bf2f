//! What happened.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct Tally {
    jobs: AtomicU64,
    bytes: AtomicU64,
    mismatches: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    /// Kinds of recovery: how many, and how long they took together and at most.
    recoveries: BTreeMap<&'static str, (u64, Duration, Duration)>,
    unexplained: Vec<String>,
    violations: Vec<String>,
    /// Resident kilobytes when things had settled, and at last.
    memory: Option<(u64, u64)>,
}

impl Tally {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transfer there and back, or a sum, came out right.
    pub fn job(&self, bytes: u64) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn mismatch(&self, what: impl fmt::Display) {
        eprintln!("\nwrong: {what}");
        self.mismatches.fetch_add(1, Ordering::Relaxed);
    }

    pub fn fault(&self, kind: &str) {
        *self.state().faults.entry(kind.into()).or_default() += 1;
    }

    /// An error that was reported, by its kind.
    pub fn error(&self, kind: &str) {
        *self.state().errors.entry(kind.into()).or_default() += 1;
    }

    pub fn recovery(&self, kind: &'static str, took: Duration) {
        let mut state = self.state();
        let (count, all, most) = state.recoveries.entry(kind).or_default();
        (*count, *all, *most) = (*count + 1, *all + took, (*most).max(took));
    }

    /// Something that should not be.
    pub fn unexplained(&self, what: impl fmt::Display) {
        eprintln!("\nunexplained: {what}");
        self.state().unexplained.push(what.to_string());
    }

    pub fn violations(&self, found: impl IntoIterator<Item = String>) {
        self.state().violations.extend(found);
    }

    pub fn note_memory(&self) {
        let Some(now) = resident() else { return };
        let mut state = self.state();
        let first = state.memory.map_or(now, |(first, _)| first);
        state.memory = Some((first, now));
    }

    pub fn line(&self) -> String {
        let state = self.state();
        let (faults, recoveries): (u64, u64) =
            (state.faults.values().sum(), state.recoveries.values().map(|r| r.0).sum());
        let (jobs, wrong) = (self.jobs.load(Ordering::Relaxed), self.mismatches.load(Ordering::Relaxed));
        format!("{jobs} jobs, {faults} faults, {recoveries} recoveries, {wrong} wrong")
    }

    pub fn report(&self, took: Duration) -> Report {
        let state = self.state();
        let count: u64 = state.recoveries.values().map(|r| r.0).sum();
        let all: Duration = state.recoveries.values().map(|r| r.1).sum();
        let recovery = |(&kind, &(count, all, most)): (&&'static str, &(u64, Duration, Duration))| {
            (kind, Recovery { count, mean_ms: millis(all) / count as f64, most_ms: millis(most) })
        };
        Report {
            seconds: took.as_secs_f64(),
            jobs: self.jobs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            faults: state.faults.clone(),
            errors: state.errors.clone(),
            recoveries: count,
            recovery: state.recoveries.iter().map(recovery).collect(),
            mean_recovery_ms: if count == 0 { 0.0 } else { millis(all) / count as f64 },
            memory_growth_kib: state.memory.map_or(0, |(first, last)| last as i64 - first as i64),
            mismatches: self.mismatches.load(Ordering::Relaxed),
            unexplained: state.unexplained.clone(),
            violations: state.violations.clone(),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Resident memory of this process in KiB.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[derive(Serialize)]
pub struct Recovery {
    count: u64,
    mean_ms: f64,
    most_ms: f64,
}

#[derive(Serialize)]
pub struct Report {
    seconds: f64,
    jobs: u64,
    bytes: u64,
    faults: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    recoveries: u64,
    recovery: BTreeMap<&'static str, Recovery>,
    mean_recovery_ms: f64,
    memory_growth_kib: i64,
    pub mismatches: u64,
    pub unexplained: Vec<String>,
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.bytes as f64 / self.seconds / 1e6;
        writeln!(f, "{} jobs, {} bytes ({rate:.0} MB/s) in {:.0} s", self.jobs, self.bytes, self.seconds)?;
        for (kind, count) in &self.faults {
            writeln!(f, "  fault     {kind:<28} {count:>8}")?;
        }
        for (kind, count) in &self.errors {
            writeln!(f, "  error     {kind:<28} {count:>8}")?;
        }
        for (kind, recovery) in &self.recovery {
            let Recovery { count, mean_ms, most_ms } = recovery;
            writeln!(f, "  recovery  {kind:<28} {count:>8}, {mean_ms:.2} ms each, {most_ms:.2} at most")?;
        }
        writeln!(f, "  memory grew by {} KiB after the start", self.memory_growth_kib)?;
        for what in &self.unexplained {
            writeln!(f, "  unexplained: {what}")?;
        }
        for what in &self.violations {
            writeln!(f, "  rule broken: {what}")?;
        }
        write!(f, "{} mismatches", self.mismatches)
    }
}
