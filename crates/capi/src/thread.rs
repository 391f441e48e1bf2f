//! The identity of threads and processes, for handles that belong to one of them.

use crate::tables;
use std::arch::asm;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static FORKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Its destructor detaches the handles of a thread that ends.
    static EXIT: Exit = const { Exit };
}

struct Exit;

impl Drop for Exit {
    fn drop(&mut self) {
        // When the main thread ends, the process ends, and handlers of `atexit` in this thread may close its handles.
        // SAFETY: plain system calls.
        if unsafe { libc::gettid() != libc::getpid() } {
            tables::detach_all(current());
        }
    }
}

/// Returns a number that differs between all threads that run at the same time: the address of the thread control block.
#[inline(always)]
pub fn current() -> u64 {
    let id;
    // SAFETY: on x86-64, the first word of the thread control block is its own address (ELF Handling For Thread-Local Storage). The
    // library supports no other architecture.
    unsafe { asm!("mov {}, fs:0", out(reg) id, options(nostack, preserves_flags, pure, readonly)) };
    id
}

/// Returns the current thread as the owner of handles, and arranges for them to be detached when it ends.
pub fn owner() -> u64 {
    // This fails in a thread that is already ending. Its handles then stay attached to it.
    let _ = EXIT.try_with(|_| ());
    current()
}

/// Returns whether this is a child, made by `fork`, of the process that opened a handle.
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Makes all handles invalid in child processes, which share neither the card nor its memory.
pub fn watch_forks() {
    extern "C" fn in_child() {
        FORKED.store(true, Ordering::Relaxed);
        tables::invalidate_all();
    }
    static ONCE: Once = Once::new();
    // SAFETY: the function only stores to atomics, which a child of a process with several threads may do.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    });
}
