//! Statistics of a run, and its report.

use crate::session::Disposal;
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xdma::channel::stream::{BufferError, ReceiveError};
use xdma::channel::{CloseError, EngineError, SubmitError, TransferError, WaitError};
use xdma::msm::{JobError, MsmSubmitError};

/// Maximum number of leaked cards.
const MAX_LEAKED: u64 = 16;

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
    /// For each kind of recovery: the number, the total time, and the longest time.
    recoveries: BTreeMap<&'static str, (u64, Duration, Duration)>,
    unexplained: Vec<String>,
    violations: Vec<String>,
    /// The number of channels and clients that were closed, dropped and forgotten.
    ends: BTreeMap<&'static str, u64>,
    quarantined: u64,
    forgotten: u64,
    /// Resident memory after the warm-up, and the latest value.
    memory: Option<(Resident, Resident)>,
}

/// Returns the name of an error in the report. `None` if no fault explains the error.
pub fn classify(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref() {
        return engine_kind(error);
    }
    if let Some(error) = error.downcast_ref::<SubmitError>() {
        return error.engine().and_then(engine_kind);
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            WaitError::Deadline { .. } => Some("Deadline"),
            other => other.engine().and_then(engine_kind),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            TransferError::Submit(error) => classify(error),
            TransferError::Wait(error) => classify(error),
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            ReceiveError::NoMetadata { .. } => Some("NoMetadata"),
            ReceiveError::Wait(error) => classify(error),
            _ => None,
        };
    }
    if let Some(BufferError::Engine(error)) = error.downcast_ref() {
        return engine_kind(error);
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            CloseError::Quarantined { .. } => Some("Quarantined"),
            other => engine_kind(other.engine()),
        };
    }
    if let Some(MsmSubmitError::Channel(error)) = error.downcast_ref() {
        return classify(error);
    }
    match error.downcast_ref()? {
        JobError::Channel(error) => classify(error),
        JobError::Interrupted { cause, .. } => classify(&**cause),
        JobError::Deadline { .. } => Some("Deadline"),
        JobError::Gone => Some("Gone"),
        JobError::WrongLabel { .. } => Some("WrongLabel"),
        JobError::Design(_) => Some("Design"),
        _ => None,
    }
}

fn engine_kind(error: &EngineError) -> Option<&'static str> {
    Some(match error {
        EngineError::Failed { .. } => "Failed",
        EngineError::Gone { .. } => "Gone",
        EngineError::Hung { .. } => "Hung",
        EngineError::Stopped => "Stopped",
        EngineError::Bus { .. } => "Bus",
        _ => return None,
    })
}

impl Tally {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a round trip or an MSM with a correct result.
    pub fn job(&self, bytes: u64) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts wrong data, and prints a description.
    pub fn mismatch(&self, what: impl fmt::Display) {
        eprintln!("\nwrong: {what}");
        self.mismatches.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an injected fault.
    pub fn fault(&self, kind: &str) {
        *self.state().faults.entry(kind.into()).or_default() += 1;
    }

    /// Counts an error of the driver. It is unexplained if no fault can cause it.
    pub fn error(&self, of: &str, error: &(dyn Error + 'static)) {
        match classify(error) {
            Some(kind) => *self.state().errors.entry(format!("{of}{kind}")).or_default() += 1,
            None => self.unexplained(format!("{of}{error}")),
        }
    }

    /// Counts a channel or client that was ended on purpose.
    pub fn ended(&self, how: Disposal) {
        let name = match how {
            Disposal::Close => "close",
            Disposal::Drop => "drop",
            Disposal::Forget => "forget",
        };
        *self.state().ends.entry(name).or_default() += 1;
    }

    /// Counts bytes that were in quarantine when a card was closed.
    pub fn quarantined(&self, bytes: u64) {
        self.state().quarantined += bytes;
    }

    /// Counts a card that a forgotten handle keeps open, with all its memory, for the life of the process.
    pub fn leaked(&self) {
        self.state().forgotten += 1;
    }

    /// Returns whether another handle may be forgotten. Each leaked card takes about 30 MB.
    pub fn may_forget(&self) -> bool {
        self.state().forgotten < MAX_LEAKED
    }

    /// Counts a recovery and its time.
    pub fn recovery(&self, kind: &'static str, took: Duration) {
        let mut state = self.state();
        let (count, all, most) = state.recoveries.entry(kind).or_default();
        (*count, *all, *most) = (*count + 1, *all + took, (*most).max(took));
    }

    /// Records an event that no injected fault accounts for.
    pub fn unexplained(&self, what: impl fmt::Display) {
        eprintln!("\nunexplained: {what}");
        self.state().unexplained.push(what.to_string());
    }

    /// Records rules of the card that the driver violated.
    pub fn violations(&self, found: impl IntoIterator<Item = String>) {
        self.state().violations.extend(found);
    }

    /// Records the resident memory of this process.
    pub fn note_memory(&self) {
        let Some(now) = resident() else { return };
        let mut state = self.state();
        let first = state.memory.map_or(now, |(first, _)| first);
        state.memory = Some((first, now));
    }

    /// Returns the progress in one line.
    pub fn line(&self) -> String {
        let state = self.state();
        let (faults, recoveries): (u64, u64) =
            (state.faults.values().sum(), state.recoveries.values().map(|r| r.0).sum());
        let (jobs, wrong) = (self.jobs.load(Ordering::Relaxed), self.mismatches.load(Ordering::Relaxed));
        format!("{jobs} jobs, {faults} faults, {recoveries} recoveries, {wrong} wrong")
    }

    pub fn report(&self, took: Duration) -> SoakReport {
        let state = self.state();
        let count: u64 = state.recoveries.values().map(|r| r.0).sum();
        let all: Duration = state.recoveries.values().map(|r| r.1).sum();
        let recovery = |(&kind, &(count, all, most)): (&&'static str, &(u64, Duration, Duration))| {
            (kind, Recovery { count, mean_ms: millis(all) / count as f64, most_ms: millis(most) })
        };
        let growth = |of: fn(Resident) -> u64| {
            state.memory.map_or(0, |(first, last)| of(last) as i64 - of(first) as i64)
        };
        SoakReport {
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
    /// The part of it in memory files, which contain all memory for cards.
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
pub struct SoakReport {
    seconds: f64,
    jobs: u64,
    bytes: u64,
    faults: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    recoveries: u64,
    recovery: BTreeMap<&'static str, Recovery>,
    mean_recovery_ms: f64,
    memory_growth_kib: i64,
    /// The part of it in memory files. The memory of leaked cards is never released.
    shared_growth_kib: i64,
    ends: BTreeMap<&'static str, u64>,
    quarantined_bytes: u64,
    forgotten_cards: u64,
    pub mismatches: u64,
    pub unexplained: Vec<String>,
    pub violations: Vec<String>,
}

impl fmt::Display for SoakReport {
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
        writeln!(f, "  {} cards are kept open by forgotten handles", self.forgotten_cards)?;
        writeln!(f, "  memory grew by {all} KiB after the warm-up, {shared} KiB of it memory for cards")?;
        for what in &self.unexplained {
            writeln!(f, "  unexplained: {what}")?;
        }
        for what in &self.violations {
            writeln!(f, "  rule violated: {what}")?;
        }
        write!(f, "{} mismatches", self.mismatches)
    }
}
