//! In which order processor, card and threads see each other's accesses to memory.
//!
//! The card is a thread without locks: a doorbell is a posted write, to it like a relaxed store, and what it reports it writes
//! after the data that it reports. Every fence of the driver is here, so that `tests/loom` can run this file against a model
//! of the card in every order that the memory model allows, and show that each fence is needed.

use super::atomic::{AtomicU32, Ordering, fence};

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

/// How many transfers use memory now. They begin and end in the thread that has the channel; whether there are none is asked by
/// the thread that wants to use the memory.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU32);

impl InFlight {
    /// One more. Whoever asks in another thread got the memory from this one since, in some way that orders the two.
    #[inline]
    pub fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less: its completion was seen.
    ///
    /// Release: without it, another thread could use the memory before what the card did with it.
    #[inline]
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// How many. Acquire, for the same reason.
    #[inline]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
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
