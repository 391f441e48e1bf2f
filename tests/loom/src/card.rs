//! A card: what it sees of a doorbell, and in which order what it writes arrives.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

/// Memory that both sides use, and the two words by which they tell each other.
#[derive(Default)]
pub struct Shared {
    pub descriptor: Cell,
    pub payload: Cell,
    pub doorbell: AtomicU32,
    pub write_back: AtomicU32,
    /// A channel's status: nonzero while something happened that the driver has not cleared.
    pub status: AtomicU32,
}

/// A word of memory. An access that is not ordered after the last write, or a write that is not after all reads, is a failure
/// of the model.
pub struct Cell(UnsafeCell<u32>);

impl Default for Cell {
    fn default() -> Self {
        Self(UnsafeCell::new(0))
    }
}

impl Cell {
    pub fn get(&self) -> u32 {
        // SAFETY: loom ends the model before an access that races.
        self.0.with(|value| unsafe { *value })
    }

    pub fn set(&self, value: u32) {
        // SAFETY: as above.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}

// SAFETY: loom checks each access.
unsafe impl Sync for Cell {}
// SAFETY: it is a number.
unsafe impl Send for Cell {}

impl Shared {
    /// The card waits for a doorbell. It asks for descriptors only when that has come; the fence is how a model says so.
    fn wait_for_doorbell(&self, value: u32) {
        while self.doorbell.load(Ordering::Relaxed) < value {
            thread::yield_now();
        }
        fence(Ordering::Acquire);
    }

    /// Posted writes arrive in order (PCI Express, transaction ordering); the fence is how a model says so.
    fn report(&self, count: u32) {
        fence(Ordering::Release);
        self.write_back.store(count, Ordering::Relaxed);
    }

    /// H2C: fetches the descriptor, reads what it says, reports.
    pub fn take(&self, count: u32) -> (u32, u32) {
        self.wait_for_doorbell(count);
        let seen = (self.descriptor.get(), self.payload.get());
        self.report(count);
        seen
    }

    /// C2H: fetches the descriptor, writes data, reports.
    pub fn give(&self, count: u32, data: u32) {
        self.wait_for_doorbell(count);
        let _ = self.descriptor.get();
        self.payload.set(data);
        self.report(count);
    }

    /// Sets a bit of the status; true if the card interrupts, which it does when the status was clear.
    pub fn raise(&self) -> bool {
        self.status.swap(1, Ordering::AcqRel) == 0
    }

    /// Reads the status and clears it: a round trip, which what the card wrote before precedes.
    pub fn clear(&self) -> u32 {
        self.status.swap(0, Ordering::AcqRel)
    }
}
