//! Per-thread counts of register accesses and system calls.
//!
//! The code that performs an access counts it, on its own thread: each register access of a [`super::Bar`], each system call
//! of a bus, and each time a wait yields the processor.

use std::cell::Cell;
use std::ops::Sub;
use std::thread::LocalKey;

/// Counts of a thread since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes to card registers.
    pub register_writes: u64,
    /// Reads of card registers, each a round trip.
    pub register_reads: u64,
    /// System calls.
    pub system_calls: u64,
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

thread_local! {
    static WRITES: Cell<u64> = const { Cell::new(0) };
    static READS: Cell<u64> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

impl Counts {
    /// Returns the current thread's counts. Subtract two readings to measure what happened in between.
    pub fn now() -> Self {
        Self { register_writes: WRITES.get(), register_reads: READS.get(), system_calls: CALLS.get() }
    }
}

/// Adds to a count. Unlike `LocalKey::set`, this is inlined.
#[inline(always)]
fn add(count: &'static LocalKey<Cell<u64>>, more: u64) {
    count.with(|count| count.set(count.get() + more));
}

/// Counts a register write, for an implementation of [`super::Bar`].
#[inline]
pub fn register_write() {
    register_writes(1);
}

/// Counts several register writes.
#[inline(always)]
pub(crate) fn register_writes(count: u64) {
    add(&WRITES, count);
}

/// Counts a register read, for an implementation of [`super::Bar`].
#[inline]
pub fn register_read() {
    add(&READS, 1);
}

/// Counts a system call, for an implementation of [`super::Bus`].
#[inline]
pub fn system_call() {
    add(&CALLS, 1);
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
