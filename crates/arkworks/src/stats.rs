//! Reports and counts of MSMs over registered points.

use crate::error::MsmError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where an MSM was computed, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ComputedOn {
    /// On the card.
    Card,
    /// On the CPU, because the MSM has fewer pairs than the [crossover](crate::Context::crossover).
    CpuBelowCrossover,
    /// On the CPU, because the card is out of service.
    CpuOutOfService,
    /// On the CPU, because the card failed, its result was wrong, or the MSM could not be sent to it.
    CpuAfterFailure(Arc<MsmError>),
    /// On the CPU, because the proof was invalid after the first attempt.
    CpuRecomputed,
}

/// An MSM over registered points.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MsmReport {
    /// The name of the points in their key, such as `a_query`.
    pub bases: &'static str,
    /// The number of pairs of a point and a scalar.
    pub pairs: usize,
    /// Where the MSM was computed.
    pub computed_on: ComputedOn,
    /// The time that the caller waited for the result. It is shorter for an MSM that was started early.
    pub time: Duration,
}

/// Counts of MSMs over registered points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContextStats {
    /// MSMs computed on the card.
    pub on_card: u64,
    /// Pairs of the MSMs computed on the card.
    pub pairs_on_card: u64,
    /// MSMs computed on the CPU because they have fewer pairs than the crossover.
    pub below_crossover: u64,
    /// MSMs computed on the CPU because the card was out of service.
    pub out_of_service: u64,
    /// MSMs computed on the CPU because the card failed, its result was wrong, or they could not be sent to it.
    pub cpu_fallbacks: u64,
    /// MSMs computed on the CPU because the proof was invalid after the first attempt.
    pub recomputed: u64,
    /// MSMs started before the prover requested them.
    pub started_early: u64,
    /// Bytes of scalars copied to DMA memory.
    pub bytes_copied: u64,
    /// Proofs that were invalid because of a wrong result, and were recomputed on the CPU.
    pub invalid_proofs: u64,
}

/// The counters behind [`ContextStats`].
#[derive(Debug, Default)]
pub(crate) struct AtomicStats {
    on_card: AtomicU64,
    pairs_on_card: AtomicU64,
    below_crossover: AtomicU64,
    out_of_service: AtomicU64,
    cpu_fallbacks: AtomicU64,
    recomputed: AtomicU64,
    pub started_early: AtomicU64,
    pub invalid_proofs: AtomicU64,
}

impl AtomicStats {
    pub fn count(&self, msm: &MsmReport) {
        let counter = match msm.computed_on {
            ComputedOn::Card => {
                increment(&self.pairs_on_card, msm.pairs as u64);
                &self.on_card
            }
            ComputedOn::CpuBelowCrossover => &self.below_crossover,
            ComputedOn::CpuOutOfService => &self.out_of_service,
            ComputedOn::CpuAfterFailure(_) => &self.cpu_fallbacks,
            ComputedOn::CpuRecomputed => &self.recomputed,
        };
        increment(counter, 1);
    }

    pub fn read(&self) -> ContextStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ContextStats {
            on_card: read(&self.on_card),
            pairs_on_card: read(&self.pairs_on_card),
            below_crossover: read(&self.below_crossover),
            out_of_service: read(&self.out_of_service),
            cpu_fallbacks: read(&self.cpu_fallbacks),
            recomputed: read(&self.recomputed),
            started_early: read(&self.started_early),
            bytes_copied: 0,
            invalid_proofs: read(&self.invalid_proofs),
        }
    }
}

pub(crate) fn increment(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
