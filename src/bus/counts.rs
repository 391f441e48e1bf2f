//! Per-thread counts of register accesses and system calls.
//!
//! The code that performs an access counts it, on its own thread: each register access of a [`super::Bar`], each system call
//! of a bus, and each time a wait yields the processor.

use std::cell::Cell;
use std::ops::Sub;
use std::ptr;

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

/// One thread-local variable for all counts: in a shared library, a function then looks up its address once.
struct Cells {
    writes: Cell<u64>,
    reads: Cell<u64>,
    calls: Cell<u64>,
}

thread_local! {
    static COUNTS: Cells = const { Cells { writes: Cell::new(0), reads: Cell::new(0), calls: Cell::new(0) } };
}

/// Returns the counts of this thread. Unlike a longer closure that is passed to `LocalKey::with`, this is always inlined.
#[inline(always)]
fn cells<'a>() -> &'a Cells {
    // SAFETY: the variable is initialised by a constant and needs no destructor, so it exists as long as its thread, and the
    // reference is neither stored nor passed to another thread: `Cells` is not `Sync`.
    unsafe { &*COUNTS.with(ptr::from_ref) }
}

impl Counts {
    /// Returns the current thread's counts. Subtract two readings to measure what happened in between.
    pub fn now() -> Self {
        let Cells { writes, reads, calls } = cells();
        Self { register_writes: writes.get(), register_reads: reads.get(), system_calls: calls.get() }
    }
}

/// Counts a register write, for an implementation of [`super::Bar`].
#[inline(always)]
pub fn register_write() {
    register_accesses(0, 1);
}

/// Counts a register read, for an implementation of [`super::Bar`].
#[inline(always)]
pub fn register_read() {
    register_accesses(1, 0);
}

/// Counts several register accesses at once.
#[inline(always)]
pub(crate) fn register_accesses(reads: u64, writes: u64) {
    let counts = cells();
    counts.reads.set(counts.reads.get() + reads);
    counts.writes.set(counts.writes.get() + writes);
}

/// Counts a system call, for an implementation of [`super::Bus`].
#[inline]
pub fn system_call() {
    let calls = &cells().calls;
    calls.set(calls.get() + 1);
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
