//! Where sums were computed.

use crate::error::SumError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where a sum was computed, and why there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Place {
    /// On the card.
    Card,
    /// On the CPU, because it has fewer pairs than the [crossover](crate::Context::crossover).
    Small,
    /// On the CPU, because the card is out of service.
    OutOfService,
    /// On the CPU, because the card failed or its result was wrong.
    Failed(Arc<SumError>),
}

/// A sum over registered points.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sum {
    /// The name of the points in their key, such as `a_query`.
    pub bases: &'static str,
    /// The number of pairs of points and scalars.
    pub pairs: usize,
    /// Where it was computed.
    pub place: Place,
    /// The time that the caller waited for it. A sum that began before it was needed has less.
    pub time: Duration,
}

/// Counts of sums over registered points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sums that the card computed.
    pub on_card: u64,
    /// Pairs of these sums.
    pub pairs_on_card: u64,
    /// Sums that the CPU computed because they are small.
    pub small: u64,
    /// Sums that the CPU computed because the card was out of service.
    pub out_of_service: u64,
    /// Sums that the CPU computed because the card failed.
    pub failed: u64,
    /// Sums that began before the prover asked for them.
    pub early: u64,
    /// Bytes of scalars that were copied to registered memory.
    pub bytes_copied: u64,
    /// Proofs that were wrong, and were made again on the CPU.
    pub wrong_proofs: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    on_card: AtomicU64,
    pairs_on_card: AtomicU64,
    small: AtomicU64,
    out_of_service: AtomicU64,
    failed: AtomicU64,
    pub early: AtomicU64,
    pub bytes_copied: AtomicU64,
    pub wrong_proofs: AtomicU64,
}

impl Counters {
    pub fn count(&self, sum: &Sum) {
        let counter = match sum.place {
            Place::Card => {
                add(&self.pairs_on_card, sum.pairs as u64);
                &self.on_card
            }
            Place::Small => &self.small,
            Place::OutOfService => &self.out_of_service,
            Place::Failed(_) => &self.failed,
        };
        add(counter, 1);
    }

    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            on_card: read(&self.on_card),
            pairs_on_card: read(&self.pairs_on_card),
            small: read(&self.small),
            out_of_service: read(&self.out_of_service),
            failed: read(&self.failed),
            early: read(&self.early),
            bytes_copied: read(&self.bytes_copied),
            wrong_proofs: read(&self.wrong_proofs),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
