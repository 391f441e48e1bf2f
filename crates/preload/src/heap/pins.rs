//! Pinned blocks.

use super::{Block, PAGE};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use xdma::card::Card;
use xdma::memory::{MapError, MemoryError};
use xdma::regs::Direction;
use xdma::unstable::card::pin;
use xdma::unstable::memory::PinnedMemory;
use xdma_chardev::{CardMemory, InPlace};

/// Maximum size in bytes of all pinned blocks, counted for each direction.
const MAX_PINNED: usize = 4 << 30;

/// Whether the card's bus is unable to pin memory.
static UNSUPPORTED: AtomicBool = AtomicBool::new(false);
static PINNED: AtomicUsize = AtomicUsize::new(0);

/// How a block is pinned.
#[derive(Default)]
pub struct Pins {
    /// For transfers to the card and from it.
    pinned: [Mutex<Option<Arc<PinnedMemory>>>; 2],
    /// Number of transfers so far, up to 2.
    uses: AtomicU32,
    /// Whether the data of this block is always copied.
    excluded: AtomicBool,
}

impl Pins {
    fn lock(&self, direction: Direction) -> std::sync::MutexGuard<'_, Option<Arc<PinnedMemory>>> {
        self.pinned[direction as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(&self) -> [std::sync::MutexGuard<'_, Option<Arc<PinnedMemory>>>; 2] {
        [self.lock(Direction::H2C), self.lock(Direction::C2H)]
    }

    /// Unpins the block. A transfer in progress keeps its pages.
    pub fn unpin(&self) {
        for mut pinned in self.each() {
            if let Some(memory) = pinned.take() {
                PINNED.fetch_sub(size_of_pinned(&memory), Ordering::Relaxed);
            }
        }
    }

    /// Unpins the block. From then on, its data is copied.
    pub fn exclude(&self) {
        self.excluded.store(true, Ordering::Relaxed);
        self.unpin();
    }

    pub fn is_excluded(&self) -> bool {
        self.excluded.load(Ordering::Relaxed)
    }

    /// Prepares the block for its next user. Returns whether the card no longer accesses it.
    pub fn release(&self) -> bool {
        self.excluded.store(false, Ordering::Relaxed);
        self.each().iter().all(|pinned| pinned.as_ref().is_none_or(|memory| memory.is_idle()))
    }
}

fn size_of_pinned(memory: &PinnedMemory) -> usize {
    xdma::memory::DmaMemory::byte_len(memory) as usize
}

/// Returns the memory for a transfer in place, or `None` if the data must be copied. The card is open in this process, so the
/// block and its pins do not belong to a parent process.
#[inline]
pub fn in_place(
    card: &Card,
    address: usize,
    length: usize,
    direction: Direction,
) -> Option<InPlace<'static>> {
    let block = super::block(address)?;
    let offset = address - block.start().addr();
    if length > block.size() - offset {
        return None;
    }
    let pinned = block.pins.lock(direction).clone();
    let memory = match pinned {
        Some(memory) => memory,
        None => pin_block(card, block, direction)?,
    };
    Some(InPlace { memory: CardMemory::Pinned(memory), offset: offset as u64 })
}

/// Pins a block if it is used for the second time.
#[cold]
fn pin_block(card: &Card, block: &'static Block, direction: Direction) -> Option<Arc<PinnedMemory>> {
    let pins = &block.pins;
    if UNSUPPORTED.load(Ordering::Relaxed) || pins.uses.fetch_add(1, Ordering::Relaxed) == 0 {
        return None;
    }
    // The lock is held until the block is pinned, because another thread may pin the block for its own transfer, or exclude it.
    let mut place = pins.lock(direction);
    if place.is_some() || pins.is_excluded() {
        return place.clone();
    }
    let size = block.size();
    if PINNED.fetch_add(size, Ordering::Relaxed) + size > MAX_PINNED {
        PINNED.fetch_sub(size, Ordering::Relaxed);
        return None;
    }
    make_private(block);
    // SAFETY: a block is never unmapped. It contains plain bytes, and this library makes no references to them during a transfer.
    let pinned = unsafe { pin(card, block.start(), size as u64, direction, Box::new(())) };
    match pinned {
        Ok(memory) => {
            let memory = Arc::new(memory);
            *place = Some(memory.clone());
            Some(memory)
        }
        Err(error) => {
            PINNED.fetch_sub(size, Ordering::Relaxed);
            match error {
                MemoryError::Map(MapError::NotShareable) => UNSUPPORTED.store(true, Ordering::Relaxed),
                // For example, the limit for locked memory was reached.
                _ => pins.excluded.store(true, Ordering::Relaxed),
            }
            None
        }
    }
}

/// Writes to each page without changing it, so that the program keeps the same page when it writes later. Before Linux 6.2, a
/// page that is pinned only for reading can be the zero page, or a page that is shared with a child process. The program's next
/// write would then replace the page.
fn make_private(block: &Block) {
    for offset in (0..block.size()).step_by(PAGE) {
        // SAFETY: the block is accessible memory; the program accesses it only as plain bytes.
        let byte = unsafe { AtomicU8::from_ptr(block.start().add(offset)) };
        let value = byte.load(Ordering::Relaxed);
        // If this fails, the program has just written to the page itself.
        let _ = byte.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
    }
}
