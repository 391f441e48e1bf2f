//! The C library's functions for memory.

use super::{PAGE, allocate, block, free as free_block};
use crate::{errno, ranges, real};
use libc::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

// SAFETY, for all functions below: the contract for the caller is that of the C library function of the same name.

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: see above.
    allocate(size, 1, false).unwrap_or_else(|| unsafe { real::malloc(size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let own = count.checked_mul(size).and_then(|bytes| allocate(bytes, 1, true));
    // SAFETY: see above.
    own.unwrap_or_else(|| unsafe { real::calloc(count, size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(memory: *mut c_void) {
    match block(memory.addr()) {
        Some(block) => {
            let saved = errno::get();
            free_block(block, memory);
            errno::set(saved);
        }
        // SAFETY: see above.
        None => unsafe { free_real(memory) },
    }
}

/// Frees memory of the C library. The first call looks up the C library's `free`. During this lookup, `dlsym` frees the text of
/// an earlier error. That text is leaked, because no other function can free it yet.
unsafe fn free_real(memory: *mut c_void) {
    static LOOKUP: AtomicBool = AtomicBool::new(false);
    static IS_KNOWN: AtomicBool = AtomicBool::new(false);
    if !IS_KNOWN.load(Ordering::Relaxed) && LOOKUP.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: see above.
    unsafe { ranges::while_freeing(memory, || real::free(memory)) };
    IS_KNOWN.store(true, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: see above. Both blocks have `kept` bytes.
    unsafe {
        match block(memory.addr()) {
            Some(block) if size > 0 && size <= block.size() && size > block.size() / 2 => memory,
            Some(block) => {
                let new = if size > 0 { malloc(size) } else { null_mut() };
                if !new.is_null() {
                    let kept = size.min(block.size());
                    std::ptr::copy_nonoverlapping(memory.cast::<u8>(), new.cast::<u8>(), kept);
                }
                if size == 0 || !new.is_null() {
                    free_block(block, memory);
                }
                new
            }
            None => ranges::while_freeing(memory, || real::realloc(memory, size)),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(memory: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: see above.
        Some(bytes) => unsafe { realloc(memory, bytes) },
        None => out_of_memory(),
    }
}

fn out_of_memory() -> *mut c_void {
    errno::set(libc::ENOMEM);
    null_mut()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(result: *mut *mut c_void, align: usize, size: usize) -> c_int {
    match allocate(size, align, false) {
        Some(memory) => {
            // SAFETY: see above.
            unsafe { *result = memory };
            0
        }
        // SAFETY: see above.
        None => unsafe { real::posix_memalign(result, align, size) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    // SAFETY: see above.
    allocate(size, align, false).unwrap_or_else(|| unsafe { real::aligned_alloc(align, size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    // SAFETY: see above.
    allocate(size, align, false).unwrap_or_else(|| unsafe { real::memalign(align, size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    // SAFETY: see above.
    unsafe { memalign(PAGE, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    match size.checked_next_multiple_of(PAGE) {
        // SAFETY: see above.
        Some(bytes) => unsafe { memalign(PAGE, bytes) },
        None => out_of_memory(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(memory: *mut c_void) -> usize {
    match block(memory.addr()) {
        Some(block) => block.size(),
        // SAFETY: see above.
        None => unsafe { real::malloc_usable_size(memory) },
    }
}
