//! The word through which a client and the broker take turns. `tests/loom` runs this file in every order that the memory model
//! allows.

use super::futex;
use super::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The broker executes the request.
pub const BROKER: u32 = 1;
/// The reply is complete. The client may write the next request.
pub const REPLIED: u32 = 2;
/// Added to a value while the other side sleeps, or is about to.
const SLEEPING: u32 = 1 << 30;
/// Changes whenever a thread of the broker is woken for another reason than a request.
const WOKEN: u32 = 1 << 31;

/// The word. At first, it is 0.
///
/// Each side waits for the other to change it. It first yields the processor a few times, which is enough for a short call, and
/// then sleeps (a futex). It marks the word before it sleeps, so that the other side makes a system call only to wake it.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Turn(AtomicU32);

impl Turn {
    /// Returns the value of the word, without the mark.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire) & !SLEEPING
    }

    /// Changes the word, and wakes the other side if it sleeps. What this thread wrote before is visible to the other side when
    /// it sees the new value.
    #[inline]
    pub fn pass(&self, value: u32) {
        if self.0.swap(value, Ordering::AcqRel) & SLEEPING != 0 {
            futex::wake(&self.0, 1);
        }
    }

    /// Wakes all threads that sleep, or are about to. They find another value.
    pub fn wake(&self) {
        // The word is changed before the wake-up, so a thread that is about to sleep sees the new value and does not sleep.
        self.0.fetch_xor(WOKEN, Ordering::Release);
        futex::wake(&self.0, i32::MAX as u32);
    }

    /// The broker: waits until the word has the value `expected`. Returns false if the thread was woken for another reason since
    /// the word had the value `seen`, which [`get`](Self::get) has returned.
    #[inline]
    pub fn wait_for(&self, expected: u32, seen: u32) -> bool {
        let value = if seen == expected { seen } else { self.wait_for_change(seen) };
        value == expected
    }

    #[inline]
    fn wait_for_change(&self, seen: u32) -> u32 {
        self.changes_soon(seen).unwrap_or_else(|| {
            self.sleep(seen, None);
            self.get()
        })
    }

    /// The client: waits for a short time until the word has the value `expected`. Returns whether it has.
    #[inline]
    pub fn wait_shortly_for(&self, expected: u32) -> bool {
        let value = self.get();
        value == expected || self.changes_soon(value) == Some(expected)
    }

    /// The client: sleeps until the word has the value `expected`, at most for `limit`. Returns whether it has. Returns early
    /// after a signal.
    pub fn sleep_for(&self, expected: u32, limit: Duration) -> bool {
        let value = self.get();
        if value != expected {
            self.sleep(value, Some(limit));
        }
        self.get() == expected
    }

    /// Yields the processor a few times. Returns the new value as soon as it is no longer `value`.
    #[inline]
    fn changes_soon(&self, value: u32) -> Option<u32> {
        (0..futex::YIELDS).find_map(|_| {
            futex::yield_now();
            Some(self.get()).filter(|new| *new != value)
        })
    }

    /// Sleeps while the value is `value`, at most for `limit`.
    fn sleep(&self, value: u32, limit: Option<Duration>) {
        let marked = value | SLEEPING;
        // The mark may remain from an earlier sleep that has reached its limit.
        let mark = self.0.compare_exchange(value, marked, Ordering::AcqRel, Ordering::Acquire);
        if mark.is_ok() || mark == Err(marked) {
            futex::wait(&self.0, marked, limit);
        }
    }
}
