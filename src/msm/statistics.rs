//! Statistics of the client and samples of the design's counters, which other processes can read.

use super::{Design, DesignError};
use crate::bus::BusError;
use crate::card::{Card, UserBar};
use crate::memory::SharedBlock;
use crate::regs::msm as regs;
use crate::stats::{CLIENT_WORDS, Reader};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Minimum interval between samples of the design's counters.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Statistics of an MSM client, with the latest sample of the design's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsmStats {
    /// Number of jobs submitted.
    pub submitted: u64,
    /// Number of jobs whose result was fetched.
    pub completed: u64,
    /// Total number of pairs in the completed jobs.
    pub pairs: u64,
    /// Number of samples taken. The fields that follow are from the latest one.
    pub samples: u64,
    /// Levels of the FIFOs: scalars, points.
    pub filled: [u64; 2],
    /// Depths of the FIFOs: scalars, points.
    pub depths: [u64; 2],
    /// Clock cycles since the design was reset.
    pub cycles: u64,
    /// Clock cycles in which the core was busy.
    pub busy: u64,
}

impl MsmStats {
    /// Reads the statistics of a card that a process has open.
    pub fn of(reader: &Reader) -> Self {
        let w = reader.client();
        let [submitted, completed, pairs, samples] = [w[0], w[1], w[2], w[3]];
        let (filled, depths) = ([w[4], w[5]], [w[6], w[7]]);
        Self { submitted, completed, pairs, samples, filled, depths, cycles: w[8], busy: w[9] }
    }

    /// Writes the fields to the block, in order.
    fn store(&self, block: &SharedBlock<CLIENT_WORDS>) {
        let Self { submitted, completed, pairs, samples, filled, depths, cycles, busy } = *self;
        let [[scalars, points], [scalar_depth, point_depth]] = [filled, depths];
        let words =
            [submitted, completed, pairs, samples, scalars, points, scalar_depth, point_depth, cycles, busy];
        words.iter().zip(block.iter()).for_each(|(value, word)| word.store(*value, Ordering::Relaxed));
    }
}

#[derive(Debug)]
pub(super) struct ClientCounters {
    block: SharedBlock<CLIENT_WORDS>,
    now: MsmStats,
    last_sample: Instant,
}

impl ClientCounters {
    /// Creates the counters of a design that was just reset.
    pub fn new(card: &Card, design: &Design) -> Self {
        let depths = [design.scalar_depth.into(), design.point_depth.into()];
        let this = Self {
            block: card.client_counters(),
            now: MsmStats { depths, ..MsmStats::default() },
            last_sample: Instant::now(),
        };
        this.now.store(&this.block);
        this
    }

    pub fn submitted(&mut self) {
        self.now.submitted += 1;
        self.block[0].store(self.now.submitted, Ordering::Relaxed);
    }

    pub fn completed(&mut self, pairs: u32) {
        self.now.completed += 1;
        self.now.pairs += u64::from(pairs);
        self.block[1].store(self.now.completed, Ordering::Relaxed);
        self.block[2].store(self.now.pairs, Ordering::Relaxed);
    }

    /// Samples the design's counters, unless the last sample is recent. The caller waits, and has read the clock.
    pub fn sample(&mut self, user: &UserBar, now: Instant) -> Result<(), DesignError> {
        if now.saturating_duration_since(self.last_sample) < SAMPLE_INTERVAL {
            return Ok(());
        }
        let word = |register| Ok::<u64, BusError>(user.read(register)?.into());
        let pair = |register| Ok::<u64, BusError>(word(register)? | word(register + 4)? << 32);
        self.now.filled = [word(regs::SCALARS_IN_FIFO)?, word(regs::POINTS_IN_FIFO)?];
        (self.now.cycles, self.now.busy) = (pair(regs::CYCLES)?, pair(regs::CORE_BUSY)?);
        self.now.samples += 1;
        self.last_sample = now;
        self.now.store(&self.block);
        Ok(())
    }
}
