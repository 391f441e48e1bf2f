//! Large allocations of the program, in memory that the card can access in place.
//!
//! In a process that owns the card, allocations of at least [`LARGE`] bytes and page-aligned allocations come from this
//! library. It never unmaps them, so it can pin them for the card and keep them pinned. A transfer from or to such a buffer
//! needs no copy. The first transfer of a buffer copies the data; the second one pins the buffer.
//!
//! When a buffer is freed, it stays pinned for the next allocation of its size, up to [`CACHE`] bytes of such buffers. Functions
//! that change mappings (`munmap`, `madvise`, ...) unpin the buffers that they affect, because the program and the card would
//! otherwise use different pages. After `fork`, the kernel copies pinned pages for the child, so the parent keeps its own pages.

mod blocks;
mod functions;
mod pins;

pub use blocks::{Guard, exclude, lock, unpin_all};
pub use pins::in_place;

use crate::exclusive;
use blocks::Block;
use libc::c_void;

/// Minimum size in bytes of an allocation that this library makes. The C library maps memory for allocations of about this size.
const LARGE: usize = 64 << 10;
/// Size of a page in bytes.
const PAGE: usize = 4096;
/// Size of a huge page in bytes. Blocks of at least this size are aligned to it.
const HUGE: usize = 2 << 20;
/// Maximum size in bytes of all freed blocks that keep their memory.
const CACHE: usize = 256 << 20;

/// Allocates memory if this library serves such requests. Otherwise, the C library does.
fn allocate(size: usize, align: usize, zeroed: bool) -> Option<*mut c_void> {
    if size < LARGE && align < PAGE || !exclusive::uses_own_heap() {
        return None;
    }
    let fits = align <= PAGE || size >= HUGE && align <= HUGE;
    if !fits || !align.is_power_of_two() {
        return None;
    }
    Block::allocate(size, zeroed).map(|block| block.start().cast())
}

/// Frees a block. In a child of the process that owns the card, the block stays allocated, because it may be pinned for the
/// parent.
fn free(block: &Block, memory: *mut c_void) {
    if exclusive::uses_own_heap() && (block.start().cast() != memory || !block.free()) {
        eprintln!("xdma: the program freed memory that is not allocated");
        std::process::abort();
    }
}

/// Returns the block that contains an address.
#[inline]
fn block(address: usize) -> Option<&'static Block> {
    Block::containing(address)
}
