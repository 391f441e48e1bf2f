//! In which order processor, card and threads see each other's accesses to memory.
//!
//! The card is a thread without locks: a doorbell is a posted write, to it like a relaxed store, and what it reports it writes
//! after the data that it reports. Every fence of the driver is here, so that `tests/loom` can run this file against a model
//! of the card in every order that the memory model allows, and show that each fence is needed.

use super::sync::Arc;
use super::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

// On x86-64 these fences order accesses to memory and to registers alike. On other architectures a doorbell, which is a write to
// device memory, may overtake the descriptors, and nothing here has been tested.
#[cfg(not(target_arch = "x86_64"))]
compile_error!("xdma supports x86-64 only: its memory fences are not correct for other architectures");

/// To be called after descriptors and data were written, before the doorbell that tells the card.
///
/// Without this the engine could fetch descriptors, or read data, that were written after the doorbell.
#[inline(always)]
pub fn before_doorbell() {
    fence(Ordering::Release);
}

/// To be called after a completion was read, before the data that it reports.
///
/// Without this, data that the card wrote before the completion could be read from before it.
#[inline(always)]
pub fn after_completion() {
    fence(Ordering::Acquire);
}

/// How many transfers use what `held` keeps: they have the references to it beyond this one. They begin and end in the thread that has
/// the channel; whether there are none is asked by the thread that wants to use the memory, which got it from that thread since,
/// in some way that orders the two.
///
/// `Arc` gives up a reference with Release, as what it keeps may be dropped by another thread. The fence is the Acquire to that: without
/// it, memory could be used before what the card did with it.
pub fn uses<T>(held: &Arc<T>) -> usize {
    let count = Arc::strong_count(held) - 1;
    fence(Ordering::Acquire);
    count
}

/// The jobs that a channel has in flight, at most `N`: for each, a number that says what it runs. Only the channel's owner writes this;
/// any thread may read it to find out whether certain work is in flight.
#[derive(Debug)]
pub struct InFlight<const N: usize> {
    /// Jobs before `done` have ended; jobs before `next` have begun.
    done: AtomicU64,
    next: AtomicU64,
    what: [AtomicU64; N],
}

impl<const N: usize> InFlight<N> {
    /// No jobs; the first will have the number `first`.
    pub fn new(first: u64) -> Self {
        let what = std::array::from_fn(|_| AtomicU64::new(0));
        Self { done: AtomicU64::new(first), next: AtomicU64::new(first), what }
    }

    /// Number of the oldest job in flight. For the owner.
    #[inline(always)]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Number of the next job. For the owner.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Job `number` begins and runs `what`. For the owner, with fewer than `N` jobs in flight. Relaxed is enough: another thread that
    /// asks got the job's memory from this thread afterwards, which orders the two.
    #[inline(always)]
    pub fn begin(&self, number: u64, what: u64) {
        self.what[number as usize % N].store(what, Ordering::Relaxed);
        self.next.store(number + 1, Ordering::Relaxed);
    }

    /// All jobs before `number` have ended: their completion was seen. For the owner.
    ///
    /// Release: without it, another thread could use their memory before what the card did with it.
    #[inline(always)]
    pub fn end_before(&self, number: u64) {
        self.done.store(number, Ordering::Release);
    }

    /// How many jobs in flight are one of `wanted`. Acquire, for the same reason.
    pub fn count(&self, wanted: impl Fn(u64) -> bool) -> usize {
        let next = self.next.load(Ordering::Relaxed);
        let done = self.done.load(Ordering::Acquire);
        // A place may be used again meanwhile, by a job that is then in flight itself.
        let is_wanted = |&number: &u64| wanted(self.what[number as usize % N].load(Ordering::Relaxed));
        (done..next).filter(is_wanted).count()
    }
}

/// What was taken, a bit each. Whoever takes one sees all that its last owner did with it.
#[derive(Debug, Default)]
pub struct Claims(AtomicU32);

impl Claims {
    /// Takes what `bit` stands for; false if somebody has it.
    pub fn take(&self, bit: u32) -> bool {
        self.0.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Gives it back.
    pub fn give_back(&self, bit: u32) {
        self.0.fetch_and(!bit, Ordering::AcqRel);
    }
}
