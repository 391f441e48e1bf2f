//! The engine, as the driver sees it: its registers, the descriptors that it reads, and how far it is with them.

use super::error::Fail;
use super::options::Ring;
use super::registers::Registers;
use super::report::Report;
use super::slots::Slots;
use crate::regs::sgdma::{CREDIT_ENABLE_W1C, CREDIT_ENABLE_W1S, FETCH_HALT_W1C, FETCH_HALT_W1S};
use crate::stats::{Count, Counters};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Engine {
    pub ring: Ring,
    pub registers: Registers,
    pub slots: Slots,
    pub progress: Progress,
    /// How long it may take to become idle.
    pub idle_limit: Duration,
    counters: Counters,
}

impl Engine {
    /// An engine that is stopped.
    pub fn new(
        registers: Registers,
        slots: Slots,
        report: Report,
        idle_limit: Duration,
        counters: Counters,
        check_idle: bool,
    ) -> Self {
        let mut progress = Progress { report, list: 0, given: 0, completed: 0, check_idle };
        progress.forget();
        Self { ring: Ring::Chain, registers, slots, progress, idle_limit, counters }
    }

    /// Counts a doorbell that gives no descriptors.
    pub fn count_start(&self) {
        self.counters.add(Count::Doorbells, 1);
    }

    /// Whether credits read back. Fetch is halted meanwhile, so nothing is transferred.
    pub fn has_credits(&self) -> Result<bool, Fail> {
        let r = &self.registers;
        r.write_common(FETCH_HALT_W1S)?;
        r.write_common(CREDIT_ENABLE_W1S)?;
        r.start(self.progress.report.address() as u32, self.slots.base(), 0)?;
        r.write_credits(1)?;
        let seen = r.credits()?;
        r.stop(self.idle_limit)?;
        r.write_common(CREDIT_ENABLE_W1C)?;
        r.write_common(FETCH_HALT_W1C)?;
        Ok(seen == 1)
    }
}

/// What the engine was given, and what it reported.
#[derive(Debug)]
pub(super) struct Progress {
    pub report: Report,
    /// Device address of the closed list that it runs on; 0 if it runs on none.
    pub list: u64,
    /// Whether its status is read before a chain is started.
    pub check_idle: bool,
    /// Descriptors given, and known to be completed.
    given: u64,
    completed: u64,
}

impl Progress {
    #[inline(always)]
    pub fn given(&self) -> u64 {
        self.given
    }

    #[inline(always)]
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// Descriptors that it was given and is not known to have completed.
    #[inline(always)]
    pub fn outstanding(&self) -> u64 {
        self.given - self.completed
    }

    /// It is started, and given `count` descriptors at once. The lower half of the device address of the word that it reports to.
    #[inline(always)]
    pub fn begin(&mut self, count: u32) -> u32 {
        self.give(count);
        self.report.advance()
    }

    /// It is given `count` descriptors more.
    #[inline(always)]
    pub fn give(&mut self, count: u32) {
        self.given += u64::from(count);
    }

    /// It has completed `count` descriptors more.
    #[inline(always)]
    pub fn complete(&mut self, count: u64) {
        self.completed += count;
    }

    /// It is idle, and will count from zero.
    pub fn restart(&mut self) {
        (self.given, self.completed) = (0, 0);
    }

    /// It was stopped, and knows no list any more.
    pub fn forget(&mut self) {
        self.restart();
        self.list = 0;
        self.report.forget();
    }

    /// As if it had done so many descriptors since Run was set.
    #[cfg(test)]
    pub fn set_done(&mut self, count: u64) {
        (self.given, self.completed) = (count, count);
    }
}
