//! System calls with which threads of several processes wait for each other.

use rustix::thread::futex::{self, Flags, Timespec};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// How often a side yields the processor before it sleeps.
pub const YIELDS: u32 = 30;

/// Sleeps if the word has this value, at most for `limit`. May return early, so the caller checks the word again.
pub fn wait(word: &AtomicU32, value: u32, limit: Option<Duration>) {
    let limit =
        limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
    let _ = futex::wait(word, Flags::empty(), value, limit.as_ref());
}

/// Wakes up to `count` threads that sleep on a word.
pub fn wake(word: &AtomicU32, count: u32) {
    // The call fails only for invalid arguments.
    let _ = futex::wake(word, Flags::empty(), count);
}

/// Lets other threads run.
#[inline]
pub fn yield_now() {
    rustix::thread::sched_yield();
}
