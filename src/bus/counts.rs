//! Counts of register accesses and system calls.
//!
//! The code that performs an access counts it, on its own thread: each register access of a [`super::Bar`], each system call
//! of a bus, and each time a wait yields the processor. A channel whose registers are mapped counts its own register accesses instead.

use std::cell::Cell;
use std::ops::{Add, Sub};

/// Counts of a thread since it started, or of a channel since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes to card registers.
    pub register_writes: u64,
    /// Reads of card registers, each a round trip.
    pub register_reads: u64,
    /// System calls.
    pub system_calls: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            register_writes: self.register_writes + other.register_writes,
            register_reads: self.register_reads + other.register_reads,
            system_calls: self.system_calls + other.system_calls,
        }
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            register_writes: self.register_writes - before.register_writes,
            register_reads: self.register_reads - before.register_reads,
            system_calls: self.system_calls - before.system_calls,
        }
    }
}

/// Counts that are still increasing.
#[derive(Debug)]
pub(super) struct Cells {
    writes: Cell<u64>,
    reads: Cell<u64>,
    calls: Cell<u64>,
}

impl Cells {
    pub const fn new() -> Self {
        Self { writes: Cell::new(0), reads: Cell::new(0), calls: Cell::new(0) }
    }

    /// Counts register accesses.
    #[inline(always)]
    pub fn add(&self, reads: u64, writes: u64) {
        self.reads.set(self.reads.get() + reads);
        self.writes.set(self.writes.get() + writes);
    }

    pub fn get(&self) -> Counts {
        let Self { writes, reads, calls } = self;
        Counts { register_writes: writes.get(), register_reads: reads.get(), system_calls: calls.get() }
    }
}

thread_local! {
    static COUNTS: Cells = const { Cells::new() };
}

impl Counts {
    /// Returns the current thread's counts. Subtract two readings to measure what happened in between.
    pub fn now() -> Self {
        COUNTS.with(Cells::get)
    }
}

/// Counts a register write, for an implementation of [`super::Bar`].
#[inline]
pub fn register_write() {
    COUNTS.with(|counts| counts.add(0, 1));
}

/// Counts a register read, for an implementation of [`super::Bar`].
#[inline]
pub fn register_read() {
    COUNTS.with(|counts| counts.add(1, 0));
}

/// Counts a system call, for an implementation of [`super::Bus`].
#[inline]
pub fn system_call() {
    COUNTS.with(|Cells { calls, .. }| calls.set(calls.get() + 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own_counts() {
        let before = Counts::now();
        register_write();
        system_call();
        system_call();
        std::thread::spawn(register_read).join().unwrap();
        let seen = Counts::now() - before;
        assert_eq!(seen, Counts { register_writes: 1, register_reads: 0, system_calls: 2 });
    }
}
