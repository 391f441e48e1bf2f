//! The model of a card: how it observes doorbells, and the order of its writes.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

/// Memory that driver and card share, and the two words by which they notify each other.
#[derive(Default)]
pub struct Shared {
    pub descriptor: Cell,
    pub payload: Cell,
    pub doorbell: AtomicU32,
    /// The completed count that the card writes back.
    pub count: AtomicU32,
    /// The channel's status: nonzero until the driver clears it.
    pub status: AtomicU32,
}

/// A word of memory. The model fails on a read that is not ordered after the last write, and on a write that is not ordered after
/// all other accesses.
pub struct Cell(UnsafeCell<u32>);

impl Default for Cell {
    fn default() -> Self {
        Self(UnsafeCell::new(0))
    }
}

impl Cell {
    pub fn get(&self) -> u32 {
        // SAFETY: loom ends the model before a racing access.
        self.0.with(|value| unsafe { *value })
    }

    pub fn set(&self, value: u32) {
        // SAFETY: as above.
        self.0.with_mut(|word| unsafe { *word = value });
    }
}

// SAFETY: loom checks each access.
unsafe impl Sync for Cell {}
// SAFETY: the cell contains a number.
unsafe impl Send for Cell {}

impl Shared {
    /// Waits for a doorbell. A card fetches descriptors only after the doorbell has arrived, which the fence models.
    fn wait_for_doorbell(&self, value: u32) {
        while self.doorbell.load(Ordering::Relaxed) < value {
            thread::yield_now();
        }
        fence(Ordering::Acquire);
    }

    /// Writes back the completed count. Posted writes arrive in order (PCI Express, transaction ordering), which the fence models.
    fn write_back(&self, count: u32) {
        fence(Ordering::Release);
        self.count.store(count, Ordering::Relaxed);
    }

    /// An H2C transfer: fetches the descriptor, reads the data, and writes back the count.
    pub fn h2c(&self, count: u32) -> (u32, u32) {
        self.wait_for_doorbell(count);
        let seen = (self.descriptor.get(), self.payload.get());
        self.write_back(count);
        seen
    }

    /// A C2H transfer: fetches the descriptor, writes the data, and writes back the count.
    pub fn c2h(&self, count: u32, data: u32) {
        self.wait_for_doorbell(count);
        let _ = self.descriptor.get();
        self.payload.set(data);
        self.write_back(count);
    }

    /// Sets the status. Returns whether the card interrupts, which it does only if the status was clear.
    pub fn raise(&self) -> bool {
        self.status.swap(1, Ordering::AcqRel) == 0
    }

    /// Reads and clears the status. Being a round trip, it is ordered after everything that the card wrote before.
    pub fn clear(&self) -> u32 {
        self.status.swap(0, Ordering::AcqRel)
    }
}
