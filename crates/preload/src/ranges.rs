//! Ranges of this process's memory that are known to be accessible.
//!
//! When the kernel has copied data from or to a buffer, later calls with the same buffer access it directly, without the
//! kernel's check. A function that changes mappings clears all ranges, and so does one that frees memory which the C library may
//! unmap. Not noticed are heaps of other threads than the main one, which the C library unmaps as a whole when they are empty. A
//! program that passes such memory to a later call is terminated with SIGSEGV instead of receiving EFAULT.

use crate::{heap, real};
use libc::{c_int, c_void};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Number of ranges that are remembered.
const RANGES: usize = 8;

/// Number of changes to this process's mappings.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Whether a range was ever recorded.
static USED: AtomicBool = AtomicBool::new(false);

/// Size in bytes of the smallest block that the C library maps on its own, unless the program has changed it (`mallopt`). It
/// returns memory at the end of its heap when at least this much is free.
const MAPPED: usize = 128 << 10;

#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    changes: u64,
    writable: bool,
}

/// The ranges that a thread knows to be accessible.
pub struct Known {
    ranges: [Cell<Range>; RANGES],
    next: Cell<usize>,
}

impl Known {
    pub const fn new() -> Self {
        const NONE: Range = Range { start: 0, end: 0, changes: 0, writable: false };
        Self { ranges: [const { Cell::new(NONE) }; RANGES], next: Cell::new(0) }
    }

    /// Returns whether a range is known to be readable.
    #[inline(always)]
    pub fn is_readable(&self, address: u64, length: u64) -> bool {
        self.contains(address, length, false)
    }

    /// Returns whether a range is known to be writable.
    #[inline(always)]
    pub fn is_writable(&self, address: u64, length: u64) -> bool {
        self.contains(address, length, true)
    }

    #[inline(always)]
    fn contains(&self, address: u64, length: u64, writable: bool) -> bool {
        let changes = CHANGES.load(Ordering::Acquire);
        let Some(end) = address.checked_add(length) else { return false };
        // A loop, because the compiler does not inline `Iterator::any` here.
        for range in &self.ranges {
            let range = range.get();
            if range.start <= address
                && end <= range.end
                && range.changes == changes
                && range.writable >= writable
            {
                return true;
            }
        }
        false
    }

    /// Records that a range is accessible.
    #[cold]
    pub fn add(&self, address: u64, length: u64, writable: bool) {
        USED.store(true, Ordering::Relaxed);
        let changes = CHANGES.load(Ordering::Acquire);
        let range = Range { start: address, end: address.saturating_add(length), changes, writable };
        let next = self.next.get();
        self.ranges[next].set(range);
        self.next.set((next + 1) % RANGES);
    }
}

/// Clears the ranges that all threads know.
fn clear() {
    CHANGES.fetch_add(1, Ordering::Release);
}

/// Executes a function that frees the C library's block `memory`, or moves it. Clears the ranges if the C library may have
/// unmapped memory.
///
/// # Safety
///
/// `memory` must be null or a block of the C library.
#[inline]
pub unsafe fn while_freeing<R>(memory: *mut c_void, free: impl FnOnce() -> R) -> R {
    if !USED.load(Ordering::Relaxed) {
        return free();
    }
    // SAFETY: the caller's contract. With the argument 0, `sbrk` changes nothing and makes no system call.
    let (is_mapped, end) = unsafe { (real::malloc_usable_size(memory) >= MAPPED, libc::sbrk(0)) };
    let result = free();
    // SAFETY: as above.
    if is_mapped || unsafe { libc::sbrk(0) } < end {
        clear();
    }
    result
}

/// Defines functions that change the mappings of a range.
macro_rules! changes {
    ($($name:ident($address:ident: $pointer:ty, $length:ident: usize $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {$(
        // SAFETY: the contract is that of the C library function.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($address: $pointer, $length: usize $(, $argument: $type)*) -> $result {
            changed($address, $length);
            // SAFETY: as above.
            unsafe { real::$name($address, $length $(, $argument)*) }
        }
    )*};
}

changes! {
    munmap(address: *mut c_void, length: usize) -> c_int;
    mprotect(address: *mut c_void, length: usize, protection: c_int) -> c_int;
    pkey_mprotect(address: *mut c_void, length: usize, protection: c_int, key: c_int) -> c_int;
}

/// Moves a mapping, and replaces whatever is mapped at the new address.
#[unsafe(no_mangle)]
unsafe extern "C" fn mremap(
    address: *mut c_void,
    length: usize,
    new: usize,
    flags: c_int,
    to: *mut c_void,
) -> *mut c_void {
    changed(address, length);
    if flags & libc::MREMAP_FIXED != 0 {
        changed(to, new);
    }
    // SAFETY: the contract is that of the C library function.
    unsafe { real::mremap(address, length, new, flags, to) }
}

/// Records that the program changes the mappings of a range.
pub fn changed(address: *mut c_void, length: usize) {
    clear();
    heap::exclude(address, length);
}

/// Kinds of advice that replace pages, now or in a child process.
const REPLACES: [c_int; 7] = [
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_REMOVE,
    libc::MADV_DONTFORK,
    libc::MADV_WIPEONFORK,
    MADV_DONTNEED_LOCKED,
    MADV_GUARD_INSTALL,
];
const MADV_DONTNEED_LOCKED: c_int = 24;
const MADV_GUARD_INSTALL: c_int = 102;

// SAFETY: the contract is that of the C library function.
#[unsafe(no_mangle)]
unsafe extern "C" fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int {
    if REPLACES.contains(&advice) {
        changed(address, length);
    }
    // SAFETY: as above.
    unsafe { real::madvise(address, length, advice) }
}

// SAFETY: the contract is that of the C library function.
#[unsafe(no_mangle)]
unsafe extern "C" fn shmat(segment: c_int, address: *const c_void, flags: c_int) -> *mut c_void {
    if flags & libc::SHM_REMAP != 0 {
        // The segment's size is not known here, so this includes more than it replaces.
        changed(address.cast_mut(), usize::MAX);
    }
    // SAFETY: as above.
    unsafe { real::shmat(segment, address, flags) }
}

// SAFETY: the contract is that of the C library function.
#[unsafe(no_mangle)]
unsafe extern "C" fn shmdt(address: *const c_void) -> c_int {
    clear();
    // SAFETY: as above.
    unsafe { real::shmdt(address) }
}
