//! The DMA engine of a channel: its registers, its descriptors, and its progress.

use super::error::Fail;
use super::options::Ring;
use super::registers::Registers;
use super::slots::Slots;
use super::write_back::CompletionWord;
#[cfg(test)]
use crate::regs::channel::WriteBack;
use crate::regs::sgdma::{CREDIT_ENABLE_W1C, CREDIT_ENABLE_W1S, FETCH_HALT_W1C, FETCH_HALT_W1S};
use crate::stats::{Count, Counters};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Engine {
    pub ring: Ring,
    pub registers: Registers,
    pub slots: Slots,
    pub progress: Progress,
    /// Time limit for the engine to become idle.
    pub idle_limit: Duration,
    counters: Counters,
}

impl Engine {
    /// Creates an engine, which is stopped.
    pub fn new(
        registers: Registers,
        slots: Slots,
        word: CompletionWord,
        idle_limit: Duration,
        counters: Counters,
        check_idle: bool,
    ) -> Self {
        let mut progress = Progress { word, list: 0, posted: 0, completed: 0, base: 0, check_idle };
        progress.reset();
        Self { ring: Ring::Chain, registers, slots, progress, idle_limit, counters }
    }

    /// Counts a doorbell that posts no descriptors.
    pub fn count_start(&self) {
        self.counters.add(Count::Doorbells, 1);
    }

    /// Returns whether credits can be written and read back. Descriptor fetch is halted meanwhile, so that nothing is
    /// transferred.
    pub fn has_credits(&self) -> Result<bool, Fail> {
        let r = &self.registers;
        r.write_common(FETCH_HALT_W1S)?;
        r.write_common(CREDIT_ENABLE_W1S)?;
        r.start(self.progress.word.address() as u32, self.slots.base(), 0)?;
        r.write_credits(1)?;
        let seen = r.credits()?;
        r.stop(self.idle_limit, || None, &mut || {})?;
        r.write_common(CREDIT_ENABLE_W1C)?;
        r.write_common(FETCH_HALT_W1C)?;
        Ok(seen == 1)
    }
}

/// Descriptors posted to the engine and completed by it.
#[derive(Debug)]
pub(super) struct Progress {
    pub word: CompletionWord,
    /// Device address of the closed list that the engine runs; 0 if it runs none.
    pub list: u64,
    /// Whether the status register is read before a chain is started.
    pub check_idle: bool,
    /// Number of descriptors posted, and number known to be completed.
    posted: u64,
    completed: u64,
    /// Value of both when Run was set on the closed list: the engine counts from zero then.
    base: u64,
}

impl Progress {
    #[inline(always)]
    pub fn posted(&self) -> u64 {
        self.posted
    }

    #[inline(always)]
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Returns the number of posted descriptors that are not known to be completed.
    #[inline(always)]
    pub fn outstanding(&self) -> u64 {
        self.posted - self.completed
    }

    #[inline(always)]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Records that the engine is started with `count` descriptors. Returns the lower half of its completion word's device
    /// address.
    #[inline(always)]
    pub fn start(&mut self, count: u64) -> u32 {
        self.post(count);
        self.word.advance()
    }

    /// Records that `count` more descriptors are posted.
    #[inline(always)]
    pub fn post(&mut self, count: u64) {
        self.posted += count;
    }

    /// Records that `count` more descriptors are completed.
    #[inline(always)]
    pub fn complete(&mut self, count: u64) {
        self.completed += count;
    }

    /// Records that the engine, which has completed all posted descriptors, counts from zero when it is started.
    pub fn restart(&mut self) {
        self.base = self.posted;
    }

    /// Resets everything: the engine was stopped, and runs no list. No job is in flight.
    pub fn reset(&mut self) {
        (self.posted, self.completed, self.base) = (0, 0, 0);
        self.list = 0;
        self.word.reset();
    }

    /// Sets the counts as if `count` descriptors had been completed since Run was set.
    #[cfg(test)]
    pub fn set_done(&mut self, count: u64) {
        (self.posted, self.completed) = (count, count);
        self.word.mark_known(WriteBack(count as u32 & WriteBack::COUNT_MASK));
    }
}
