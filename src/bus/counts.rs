//! What a thread asked of the hardware and of the kernel.
//!
//! Counted at the places that do it, in the thread that does it: each register access in a [`super::Bar`], each
//! system call in a bus, and each time that waiting yields.

use std::cell::Cell;
use std::ops::Sub;
use std::thread::LocalKey;

/// Counts of the current thread since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes to registers of the card.
    pub register_writes: u64,
    /// Reads of registers of the card, each a round trip.
    pub register_reads: u64,
    /// Entries into the kernel.
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
    /// The current thread's counts; two of them can be subtracted.
    pub fn now() -> Self {
        Self { register_writes: WRITES.get(), register_reads: READS.get(), system_calls: CALLS.get() }
    }
}

/// `LocalKey::set` would do, but is a function call each time.
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
    fn threads_count_for_themselves() {
        let before = Counts::now();
        register_write();
        system_call();
        system_call();
        std::thread::spawn(register_read).join().unwrap();
        let seen = Counts::now() - before;
        assert_eq!(seen, Counts { register_writes: 1, register_reads: 0, system_calls: 2 });
    }
}
