//! Blocks of memory in an address range that is reserved once.
//!
//! A block keeps its address and size for the lifetime of the process. Freed blocks are in a list for each size. Nothing here
//! allocates, since the functions below implement `malloc`.

use super::pins::Pins;
use super::{CACHE, HUGE, PAGE};
use crate::exclusive::uses_own_heap;
use crate::real;
use libc::c_void;
use std::ops::Range;
use std::ptr::{null_mut, with_exposed_provenance, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Size in bytes of the address range. It occupies no memory.
const RANGE: usize = 1 << 40;
/// Maximum number of blocks.
const BLOCKS: usize = 1 << 20;
/// Sizes have this many steps between two powers of two, so that at most an eighth of a block is unused.
const STEPS: usize = 8;
/// Number of block sizes: steps for each power of two up to [`RANGE`].
const CLASSES: usize = STEPS * 40;
const ACCESSIBLE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
/// The tables become accessible in steps of this many bytes. A program that locks all of its memory (`mlockall`) then locks only
/// the parts in use.
const TABLE_STEP: usize = 64 << 10;

/// A block of memory.
pub struct Block {
    start: usize,
    /// Size in bytes: a multiple of the page size.
    size: usize,
    /// The block's number plus 1.
    number: u32,
    /// The number plus 1 of the next free block of this size.
    next: AtomicU32,
    is_free: AtomicBool,
    /// Whether the block's memory may contain data.
    dirty: AtomicBool,
    pub(super) pins: Pins,
}

/// The state that the lock protects.
pub struct Lists {
    /// First free block of each size, as its number plus 1.
    free: [u32; CLASSES],
    blocks: usize,
    /// Total size of free blocks that have memory.
    cached: usize,
    /// Number of accessible bytes of [`TABLE`] and of [`PAGES`].
    accessible: [usize; 2],
}

/// Address of the range, or 0 before the first allocation, or 1 if it could not be reserved.
static START: AtomicUsize = AtomicUsize::new(0);
/// Offset of the unused rest of the range.
static UNUSED: AtomicUsize = AtomicUsize::new(0);
/// Address of the blocks.
static TABLE: AtomicUsize = AtomicUsize::new(0);
/// Address of the numbers plus 1 of the block of each page.
static PAGES: AtomicUsize = AtomicUsize::new(0);
static LISTS: Mutex<Lists> =
    Mutex::new(Lists { free: [0; CLASSES], blocks: 0, cached: 0, accessible: [0; 2] });

pub type Guard = MutexGuard<'static, Lists>;

pub fn lock() -> Guard {
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the class of a size, and the size of its blocks.
fn class(size: usize) -> Option<(usize, usize)> {
    let pages = size.max(1).div_ceil(PAGE);
    let power = pages.ilog2() as usize;
    let step = ((1usize << power) / STEPS).max(1);
    let rounded = pages.next_multiple_of(step);
    let power = rounded.ilog2() as usize;
    let step = ((1usize << power) / STEPS).max(1);
    let class = power * STEPS + (rounded - (1 << power)) / step;
    let bytes = rounded.checked_mul(PAGE)?;
    (class < CLASSES && bytes < RANGE).then_some((class, bytes))
}

impl Block {
    /// Returns a block with at least `size` bytes.
    pub fn allocate(size: usize, zeroed: bool) -> Option<&'static Self> {
        let (class, bytes) = class(size)?;
        if START.load(Ordering::Acquire) <= 1 && !reserve() {
            return None;
        }
        let mut lists = lock();
        let block = match lists.free[class] {
            0 => Self::create(&mut lists, bytes)?,
            first => {
                let block = Self::numbered(first)?;
                lists.free[class] = block.next.load(Ordering::Relaxed);
                if block.dirty.load(Ordering::Relaxed) {
                    lists.cached -= bytes;
                }
                block
            }
        };
        drop(lists);
        block.is_free.store(false, Ordering::Relaxed);
        if block.dirty.swap(true, Ordering::Relaxed) && zeroed {
            // SAFETY: the block is not in use.
            unsafe { block.start().write_bytes(0, size) };
        }
        Some(block)
    }

    fn create(lists: &mut Lists, bytes: usize) -> Option<&'static Self> {
        let align = if bytes >= HUGE { HUGE } else { PAGE };
        let offset = UNUSED.load(Ordering::Relaxed).next_multiple_of(align);
        let end = offset + bytes;
        if end > RANGE || lists.blocks == BLOCKS {
            return None;
        }
        let start = START.load(Ordering::Acquire) + offset;
        lists.extend_tables([(lists.blocks + 1) * size_of::<Self>(), end / PAGE * size_of::<AtomicU32>()])?;
        make_accessible(start, bytes)?;
        lists.blocks += 1;
        let number = lists.blocks as u32;
        let block = Self {
            start,
            size: bytes,
            number,
            next: AtomicU32::new(0),
            is_free: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            pins: Pins::default(),
        };
        // SAFETY: the table has space for all blocks, and no other thread uses this place yet.
        unsafe { table().add(lists.blocks - 1).write(block) };
        (offset / PAGE..end / PAGE).for_each(|page| page_number(page).store(number, Ordering::Release));
        UNUSED.store(end, Ordering::Release);
        Self::numbered(number)
    }

    /// Returns an existing block by its number plus 1.
    fn numbered(number: u32) -> Option<&'static Self> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        // SAFETY: numbers are stored only after their blocks, which live as long as the process.
        Some(unsafe { &*table().add(index) })
    }

    /// Returns the block that contains an address.
    #[inline]
    pub fn containing(address: usize) -> Option<&'static Self> {
        // `UNUSED` must be loaded first: if it is not 0, the other addresses are valid.
        let used = UNUSED.load(Ordering::Acquire);
        let offset = address.wrapping_sub(START.load(Ordering::Relaxed));
        if offset >= used {
            return None;
        }
        Self::numbered(page_number(offset / PAGE).load(Ordering::Acquire))
    }

    pub fn start(&self) -> *mut u8 {
        with_exposed_provenance_mut(self.start)
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Frees the block, which stays pinned if the cache has space for it. Returns whether the block was in use.
    pub fn free(&self) -> bool {
        if self.is_free.swap(true, Ordering::Relaxed) {
            return false;
        }
        let was_changed = self.pins.is_excluded();
        // A card that could not be stopped may still write to the block, so the block must not be reused.
        if !self.pins.release() {
            return true;
        }
        let (Some((class, bytes)), mut lists) = (class(self.size), lock()) else { return true };
        if was_changed || lists.cached + bytes > CACHE {
            self.pins.unpin();
            if !self.renew() {
                return true; // its pages may be inaccessible or missing
            }
        } else {
            lists.cached += bytes;
        }
        self.next.store(lists.free[class], Ordering::Relaxed);
        lists.free[class] = self.number;
        true
    }

    /// Replaces the block's pages with new ones that are accessible, unlocked and zero. Returns whether this succeeded.
    fn renew(&self) -> bool {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the block is not in use.
        let mapped = unsafe { real::mmap64(self.start().cast(), self.size, ACCESSIBLE, flags, -1, 0) };
        self.dirty.store(false, Ordering::Relaxed);
        mapped != libc::MAP_FAILED
    }
}

impl Lists {
    /// Makes this many bytes of [`TABLE`] and of [`PAGES`] accessible.
    fn extend_tables(&mut self, needed: [usize; 2]) -> Option<()> {
        for ((table, accessible), needed) in
            [&TABLE, &PAGES].into_iter().zip(&mut self.accessible).zip(needed)
        {
            if needed > *accessible {
                let end = needed.next_multiple_of(TABLE_STEP);
                make_accessible(table.load(Ordering::Acquire) + *accessible, end - *accessible)?;
                *accessible = end;
            }
        }
        Some(())
    }
}

/// Makes reserved pages accessible. The kernel refuses this if it has no memory for them.
fn make_accessible(start: usize, bytes: usize) -> Option<()> {
    // SAFETY: the pages are reserved and not in use.
    let result = unsafe { real::mprotect(with_exposed_provenance_mut(start), bytes, ACCESSIBLE) };
    (result == 0).then_some(())
}

fn table() -> *mut Block {
    with_exposed_provenance_mut(TABLE.load(Ordering::Acquire))
}

/// Returns the table entry with the number of a page's block.
#[inline]
fn page_number(page: usize) -> &'static AtomicU32 {
    let pages: *const AtomicU32 = with_exposed_provenance(PAGES.load(Ordering::Acquire));
    debug_assert!(page < RANGE / PAGE);
    // SAFETY: the table has an entry for each page of the range; callers check the offset.
    unsafe { &*pages.add(page) }
}

/// Reserves the address range and the tables. Returns whether this succeeded.
fn reserve() -> bool {
    let _lists = lock();
    match START.load(Ordering::Acquire) {
        0 => {}
        1 => return false,
        _ => return true,
    }
    let reserved =
        (map(RANGE + HUGE), map(RANGE / PAGE * size_of::<AtomicU32>()), map(BLOCKS * size_of::<Block>()));
    let (Some(range), Some(pages), Some(table)) = reserved else {
        START.store(1, Ordering::Release);
        return false;
    };
    PAGES.store(pages, Ordering::Release);
    TABLE.store(table, Ordering::Release);
    START.store(range.next_multiple_of(HUGE), Ordering::Release);
    true
}

/// Reserves address space.
fn map(bytes: usize) -> Option<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let mapped = unsafe { real::mmap64(null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    (mapped != libc::MAP_FAILED).then(|| mapped.expose_provenance())
}

/// Unpins all blocks in a range whose mapping the program changes. From then on, their data is copied.
pub fn exclude(address: *const c_void, length: usize) {
    if !uses_own_heap() {
        return; // the pins belong to the parent
    }
    for block in in_range(address.addr()..address.addr().saturating_add(length)) {
        block.pins.exclude();
    }
}

/// Unpins all blocks, before the card is closed.
pub fn unpin_all() {
    (1..=lock().blocks as u32).filter_map(Block::numbered).for_each(|block| block.pins.unpin());
}

fn in_range(range: Range<usize>) -> impl Iterator<Item = &'static Block> {
    let used = UNUSED.load(Ordering::Acquire);
    let start = START.load(Ordering::Relaxed);
    let range = range.start.max(start)..range.end.min(start + used);
    let mut at = range.start;
    std::iter::from_fn(move || {
        while at < range.end {
            match Block::containing(at) {
                Some(block) => {
                    at = block.start + block.size;
                    return Some(block);
                }
                None => at += PAGE,
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ordered_and_waste_little() {
        let mut previous = (0, 0);
        for size in (1..200).map(|step| step * 5000).chain([1 << 30, (1 << 30) + 1, 100 << 30]) {
            let (class, bytes) = super::class(size).unwrap();
            assert!(bytes >= size && bytes - size <= size / STEPS + PAGE, "{size}: {bytes}");
            assert!(
                class == previous.0 && bytes == previous.1 || class > previous.0 && bytes > previous.1,
                "{size}"
            );
            assert_eq!(super::class(bytes), Some((class, bytes)), "{size}");
            previous = (class, bytes);
        }
        assert_eq!(super::class(usize::MAX), None);
        assert_eq!(super::class(RANGE), None);
    }
}
