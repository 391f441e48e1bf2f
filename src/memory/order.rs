//! Memory ordering between the processor, the card and threads.
//!
//! The card behaves like a thread without locks. A doorbell is a posted write, which acts like a relaxed store. The card writes a
//! completion after the data that the completion reports. All of the driver's fences are in this file. `tests/loom` runs it
//! against a model of the card in every order that the memory model allows, and shows that each fence is needed, except that of
//! [`after_drop`]: loom has no `Weak`.

use super::sync::Arc;
use super::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

// On x86-64 these fences order accesses to memory and to registers. On other architectures a doorbell, which is a write to device
// memory, could overtake the descriptors; none has been tested.
#[cfg(not(target_arch = "x86_64"))]
compile_error!("xdma supports x86-64 only: its memory fences are not correct for other architectures");

/// Orders writes of descriptors and data before the doorbell that follows.
///
/// Without this fence, those writes could become visible after the doorbell, and the engine could fetch stale descriptors or
/// data.
#[inline(always)]
pub fn before_doorbell() {
    fence(Ordering::Release);
}

/// Orders the read of a completion before reads of the data that it reports.
///
/// Without this fence, the data could be read before the completion, and thus before the card wrote it.
#[inline(always)]
pub fn after_completion() {
    fence(Ordering::Acquire);
}

/// Returns how many transfers use the memory behind `memory`, each of which holds another reference to it. Transfers begin and
/// end in the thread that owns the channel. The calling thread received the memory from that thread after the transfers began, in
/// a way that synchronises the two threads.
///
/// `Arc` drops a reference with Release ordering. The fence is the matching Acquire: without it, the caller's accesses to the
/// memory could be reordered before the card's.
pub fn uses<T>(memory: &Arc<T>) -> usize {
    let count = Arc::strong_count(memory) - 1;
    fence(Ordering::Acquire);
    count
}

/// Orders the observation that an `Arc` was dropped before all later accesses.
///
/// `Arc` drops a reference with Release ordering. This is the matching Acquire, since a failed `Weak::upgrade` is Relaxed.
pub fn after_drop() {
    fence(Ordering::Acquire);
}

/// The jobs that a channel has in flight, at most `N`, each with the number of the program that it runs. Only the channel's owner
/// writes this. Any thread may read it to find out whether certain programs are in flight.
#[derive(Debug)]
pub struct InFlight<const N: usize> {
    /// Jobs before `done` have ended; jobs before `next` have begun.
    done: AtomicU64,
    next: AtomicU64,
    programs: [AtomicU64; N],
}

impl<const N: usize> InFlight<N> {
    /// Creates an empty list. The first job will have the number `first`.
    pub fn new(first: u64) -> Self {
        let programs = std::array::from_fn(|_| AtomicU64::new(0));
        Self { done: AtomicU64::new(first), next: AtomicU64::new(first), programs }
    }

    /// Returns the number of the oldest job in flight. Only for the owner.
    #[inline(always)]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns the number of the next job. Only for the owner.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Records that job `number` begins and runs `program`. Only for the owner, with fewer than `N` jobs in flight.
    ///
    /// Relaxed is sufficient for `next`: a thread that calls [`count`](Self::count) to find out about the job's memory received that
    /// memory from this thread after the job began, which synchronises the two threads. The slot is stored with Release ordering,
    /// since this store may be the only sign from which another thread learns that the slot's previous job has ended.
    #[inline(always)]
    pub fn begin(&self, number: u64, program: u64) {
        self.programs[number as usize % N].store(program, Ordering::Release);
        self.next.store(number + 1, Ordering::Relaxed);
    }

    /// Records that all jobs before `number` have ended, because their completion was seen. Only for the owner.
    ///
    /// Release ordering: without it, another thread's accesses to the jobs' memory could be reordered before the card's.
    #[inline(always)]
    pub fn end_before(&self, number: u64) {
        self.done.store(number, Ordering::Release);
    }

    /// Returns how many jobs in flight run a program for which `is_wanted` returns true. The Acquire matches the Release in
    /// [`end_before`](Self::end_before) and [`begin`](Self::begin).
    pub fn count(&self, is_wanted: impl Fn(u64) -> bool) -> usize {
        let next = self.next.load(Ordering::Relaxed);
        let done = self.done.load(Ordering::Acquire);
        // A slot may be reused concurrently, by a job that is then in flight itself.
        let program = |number: u64| self.programs[number as usize % N].load(Ordering::Acquire);
        (done..next).filter(|&number| is_wanted(program(number))).count()
    }
}

/// Exclusive claims to resources, one bit each. A new owner sees all writes of the previous one.
#[derive(Debug, Default)]
pub struct Claims(AtomicU32);

impl Claims {
    /// Claims the resource of `bit`. Returns false if it is already claimed.
    pub fn acquire(&self, bit: u32) -> bool {
        self.0.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Releases the claim.
    pub fn release(&self, bit: u32) {
        self.0.fetch_and(!bit, Ordering::AcqRel);
    }
}
