//! What the client counts for others to see, and how the design's own counters get there.

use super::{Design, MsmError};
use crate::bus::BusError;
use crate::card::{Card, MSM_WORDS, MsmStats, UserBar};
use crate::memory::SharedBlock;
use crate::regs::msm as regs;
use std::time::{Duration, Instant};

/// How often a client that waits anyway looks at the design.
pub(super) const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Counters {
    block: SharedBlock<MSM_WORDS>,
    now: MsmStats,
    looked: Instant,
}

impl Counters {
    /// Of a design that was just reset.
    pub fn new(card: &Card, design: &Design) -> Self {
        let depths = [design.scalar_depth.into(), design.point_depth.into()];
        let this = Self {
            block: card.msm_counters(),
            now: MsmStats { depths, ..MsmStats::default() },
            looked: Instant::now(),
        };
        this.now.store(&this.block);
        this
    }

    pub fn submitted(&mut self) {
        self.now.submitted += 1;
        self.now.store(&self.block);
    }

    pub fn completed(&mut self, pairs: u32) {
        self.now.completed += 1;
        self.now.pairs += u64::from(pairs);
        self.now.store(&self.block);
    }

    /// Reads the design's counters, if that was not done lately: for a client that waits, and knows what time it is.
    pub fn look(&mut self, user: &UserBar, now: Instant) -> Result<(), MsmError> {
        if now.saturating_duration_since(self.looked) < LOOK {
            return Ok(());
        }
        let word = |register| Ok::<u64, BusError>(user.read(register)?.into());
        let pair = |register| Ok::<u64, BusError>(word(register)? | word(register + 4)? << 32);
        self.now.filled = [word(regs::SCALARS_IN_FIFO)?, word(regs::POINTS_IN_FIFO)?];
        (self.now.cycles, self.now.busy) = (pair(regs::CYCLES)?, pair(regs::CORE_BUSY)?);
        self.now.looks += 1;
        self.looked = now;
        self.now.store(&self.block);
        Ok(())
    }
}
