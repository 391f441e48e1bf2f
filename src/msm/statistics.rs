//! What the client counts for others to see, and how the design's own counters get there.

use super::{Design, MsmError};
use crate::bus::BusError;
use crate::card::{Card, UserBar};
use crate::memory::SharedBlock;
use crate::regs::msm as regs;
use crate::stats::{CLIENT_WORDS, Reader};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a client that waits anyway looks at the design.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What the MSM client counts, and what it saw of the design when it last looked while it waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsmStats {
    /// Jobs submitted.
    pub submitted: u64,
    /// Jobs whose result was fetched.
    pub completed: u64,
    /// Pairs of those.
    pub pairs: u64,
    /// How often the client looked at the design. What follows is of the last time.
    pub looks: u64,
    /// Scalars and points in the FIFOs.
    pub filled: [u64; 2],
    /// What the FIFOs hold: scalars, points.
    pub depths: [u64; 2],
    /// Clocks since the design was reset.
    pub cycles: u64,
    /// Those in which the core worked.
    pub busy: u64,
}

impl MsmStats {
    /// Of a card that some process has open.
    pub fn of(reader: &Reader) -> Self {
        let w = reader.client();
        let [submitted, completed, pairs, looks] = [w[0], w[1], w[2], w[3]];
        let (filled, depths) = ([w[4], w[5]], [w[6], w[7]]);
        Self { submitted, completed, pairs, looks, filled, depths, cycles: w[8], busy: w[9] }
    }

    /// As words of the block, in the same order.
    fn store(&self, block: &SharedBlock<CLIENT_WORDS>) {
        let Self { submitted, completed, pairs, looks, filled, depths, cycles, busy } = *self;
        let [[scalars, points], [scalar_depth, point_depth]] = [filled, depths];
        let words =
            [submitted, completed, pairs, looks, scalars, points, scalar_depth, point_depth, cycles, busy];
        words.iter().zip(block.iter()).for_each(|(value, word)| word.store(*value, Ordering::Relaxed));
    }
}

#[derive(Debug)]
pub(super) struct Counters {
    block: SharedBlock<CLIENT_WORDS>,
    now: MsmStats,
    looked: Instant,
}

impl Counters {
    /// Of a design that was just reset.
    pub fn new(card: &Card, design: &Design) -> Self {
        let depths = [design.scalar_depth.into(), design.point_depth.into()];
        let this = Self {
            block: card.client_counters(),
            now: MsmStats { depths, ..MsmStats::default() },
            looked: Instant::now(),
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
