//! A sum in progress, and its result.

use crate::bases::{Bases, BasesData};
use crate::error::{CardFailure, SumError};
use crate::scalars::Scalars;
use crate::shared::Shared;
use ark_bn254::G1Projective;
use ark_ff::AdditiveGroup;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The result of a sum.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sum {
    /// The sum of all products.
    pub point: G1Projective,
    /// The parts that were added.
    pub parts: Vec<PartReport>,
    /// Cards that failed to compute a part. Other cards computed it.
    pub failures: Vec<CardFailure>,
}

/// A part of a sum that a card computed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartReport {
    /// The card's name.
    pub card: Arc<str>,
    /// The pairs of the part, counted from the sum's first pair.
    pub pairs: Range<usize>,
    /// The time that the card's thread needed: copying the scalars, computing, and checking.
    pub time: Duration,
}

/// A sum that the cards compute. Dropping it abandons what has not finished.
pub struct PendingSum {
    state: Arc<SumState>,
    shared: Arc<Shared>,
    /// Keeps the points in the cards' memory.
    _bases: Bases,
}

impl PendingSum {
    pub(crate) fn new(state: Arc<SumState>, shared: Arc<Shared>, bases: Bases) -> Self {
        Self { state, shared, _bases: bases }
    }

    /// Returns the number of pairs.
    pub fn pairs(&self) -> usize {
        self.state.scalar_range.len()
    }

    /// Returns whether [`wait`](Self::wait) returns at once.
    pub fn is_finished(&self) -> bool {
        self.state.progress().is_finished()
    }

    /// Waits for the result for at most `limit`. The result is returned only once.
    ///
    /// # Errors
    ///
    /// Returns [`SumError::Deadline`] if the sum is not finished in time. The sum is then still in progress. All other errors
    /// are final, and no part of the sum is returned.
    pub fn wait(&mut self, limit: Duration) -> Result<Sum, SumError> {
        if self.shared.is_forked() {
            // Nothing in this process computes it.
            return Err(SumError::Closed);
        }
        let begin = Instant::now();
        let mut progress = self.state.progress();
        while !progress.is_finished() {
            let Some(left) = limit.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) else {
                let pairs = progress.left;
                // Reading the cards' state takes another lock.
                drop(progress);
                return Err(SumError::Deadline { pairs, waited: limit, state: self.shared.describe() });
            };
            let waited = self.state.changed.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match &progress.error {
            Some(error) => Err(error.clone()),
            None if progress.taken => Err(SumError::Taken),
            None => {
                progress.taken = true;
                let (parts, failures) =
                    (std::mem::take(&mut progress.parts), std::mem::take(&mut progress.failures));
                Ok(Sum { point: progress.sum, parts, failures })
            }
        }
    }
}

impl Drop for PendingSum {
    fn drop(&mut self) {
        self.state.abandoned.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for PendingSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSum").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A sum, shared by its parts.
#[derive(Debug)]
pub(crate) struct SumState {
    pub bases: Arc<BasesData>,
    /// Index of the first point.
    pub first: usize,
    pub scalars: Scalars,
    pub scalar_range: Range<usize>,
    abandoned: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug)]
struct Progress {
    /// Pairs without a result.
    left: usize,
    sum: G1Projective,
    parts: Vec<PartReport>,
    failures: Vec<CardFailure>,
    error: Option<SumError>,
    taken: bool,
}

impl Progress {
    fn is_finished(&self) -> bool {
        self.left == 0 || self.error.is_some()
    }
}

impl SumState {
    pub fn new(
        bases: Arc<BasesData>,
        first: usize,
        scalars: Scalars,
        scalar_range: Range<usize>,
    ) -> Arc<Self> {
        let progress = Progress {
            left: scalar_range.len(),
            sum: G1Projective::ZERO,
            parts: vec![],
            failures: vec![],
            error: None,
            taken: false,
        };
        let (abandoned, progress, changed) = (AtomicBool::new(false), Mutex::new(progress), Condvar::new());
        Arc::new(Self { bases, first, scalars, scalar_range, abandoned, progress, changed })
    }

    /// Returns the range of the scalars of a part.
    pub fn scalars_of(&self, pairs: &Range<usize>) -> Range<usize> {
        let start = self.scalar_range.start;
        start + pairs.start..start + pairs.end
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the result is no longer needed, because the sum was abandoned or has already failed.
    pub fn is_unwanted(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) || self.progress().error.is_some()
    }

    /// Adds the result of a part.
    pub fn add(&self, point: &G1Projective, part: PartReport) {
        let mut progress = self.progress();
        progress.sum += point;
        progress.left -= part.pairs.len();
        progress.parts.push(part);
        if progress.is_finished() {
            self.changed.notify_all();
        }
    }

    /// Records that a card failed to compute a part.
    pub fn record_failure(&self, failure: CardFailure) {
        self.progress().failures.push(failure);
    }

    /// Ends the sum without a result, because no card is left for a part of `pairs` pairs.
    pub fn fail_without_card(&self, pairs: usize) {
        let mut progress = self.progress();
        let failures = progress.failures.clone();
        progress.error.get_or_insert(SumError::NoCardLeft { pairs, failures });
        self.changed.notify_all();
    }

    /// Ends the sum without a result, because the cards are closed.
    pub fn fail_closed(&self) {
        self.progress().error.get_or_insert(SumError::Closed);
        self.changed.notify_all();
    }
}
