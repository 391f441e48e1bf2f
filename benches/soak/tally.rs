//! What happened.

use crate::session::End;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xdma::channel::EngineError;

/// Cards that may be forgotten.
const FORGOTTEN: u64 = 16;

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
    /// How channels and clients were ended on purpose.
    ends: BTreeMap<&'static str, u64>,
    quarantined: u64,
    forgotten: u64,
    /// Resident memory when things had settled, and at last.
    memory: Option<(Resident, Resident)>,
}

/// What stands for an error in the report; `None` for one that no fault explains.
pub fn known(error: &EngineError) -> Option<&'static str> {
    Some(match error {
        EngineError::Failed { .. } => "Failed",
        EngineError::Deadline { .. } => "Deadline",
        EngineError::Gone { .. } => "Gone",
        EngineError::Hung { .. } => "Hung",
        EngineError::Stopped => "Stopped",
        EngineError::Bus { .. } => "Bus",
        EngineError::NoMetadata { .. } => "NoMetadata",
        EngineError::Quarantined { .. } => "Quarantined",
        _ => return None,
    })
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

    /// An error of a channel, which is unexplained if no fault brings it about.
    pub fn engine_error(&self, of: &str, error: &EngineError) {
        match known(error) {
            Some(kind) => self.error(&format!("{of}{kind}")),
            None => self.unexplained(format!("{of}{error}")),
        }
    }

    pub fn ended(&self, how: End) {
        let name = match how {
            End::Close => "close",
            End::Drop => "drop",
            End::Forget => "forget",
        };
        *self.state().ends.entry(name).or_default() += 1;
    }

    /// Bytes that a card had in quarantine when it was closed.
    pub fn quarantined(&self, bytes: u64) {
        self.state().quarantined += bytes;
    }

    /// Something was forgotten that keeps a card, and all its memory, for the life of the process.
    pub fn forgotten(&self) {
        self.state().forgotten += 1;
    }

    /// Forgotten cards add up, to some 30 MB each: there is an end to them.
    pub fn may_forget(&self) -> bool {
        self.state().forgotten < FORGOTTEN
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
        let growth = |of: fn(Resident) -> u64| {
            state.memory.map_or(0, |(first, last)| of(last) as i64 - of(first) as i64)
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
            memory_growth_kib: growth(|resident| resident.all),
            shared_growth_kib: growth(|resident| resident.shared),
            ends: state.ends.clone(),
            quarantined_bytes: state.quarantined,
            forgotten_cards: state.forgotten,
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
#[derive(Clone, Copy)]
struct Resident {
    all: u64,
    /// Of files in memory: what cards reach.
    shared: u64,
}

fn resident() -> Option<Resident> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Resident { all: value("VmRSS:")?, shared: value("RssShmem:")? })
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
    /// The part of it that cards reach: of cards that were forgotten it stays.
    shared_growth_kib: i64,
    ends: BTreeMap<&'static str, u64>,
    quarantined_bytes: u64,
    forgotten_cards: u64,
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
        for (how, count) in &self.ends {
            writeln!(f, "  ended     {how:<28} {count:>8}")?;
        }
        let Self { memory_growth_kib: all, shared_growth_kib: shared, .. } = self;
        writeln!(f, "  {} bytes were in quarantine when their cards were closed", self.quarantined_bytes)?;
        writeln!(f, "  {} cards are kept open by handles that were forgotten", self.forgotten_cards)?;
        writeln!(f, "  memory grew by {all} KiB after the start, {shared} of it memory for cards")?;
        for what in &self.unexplained {
            writeln!(f, "  unexplained: {what}")?;
        }
        for what in &self.violations {
            writeln!(f, "  rule broken: {what}")?;
        }
        write!(f, "{} mismatches", self.mismatches)
    }
}
