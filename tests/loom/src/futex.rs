//! A model of a futex, for a single word.

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::time::Duration;

/// How often a side yields the processor before it sleeps.
pub const YIELDS: u32 = 1;

#[derive(Default)]
struct State {
    /// Whether a thread that should sleep without a limit returns instead. Loom cannot continue after a deadlock.
    returns: bool,
    /// Whether a thread has returned so and was not woken since then.
    is_asleep: bool,
}

loom::lazy_static! {
    static ref STATE: Mutex<State> = Mutex::new(State::default());
    static ref WOKEN: Condvar = Condvar::new();
}

/// From now on, a thread that should sleep without a limit returns instead.
pub fn return_instead() {
    STATE.lock().unwrap().returns = true;
}

/// Returns whether a thread has returned instead of sleeping and was not woken since then.
pub fn is_asleep() -> bool {
    STATE.lock().unwrap().is_asleep
}

/// Sleeps if the word has this value. A limit may be reached at any time.
pub fn wait(word: &AtomicU32, value: u32, limit: Option<Duration>) {
    if limit.is_some() {
        return thread::yield_now();
    }
    let mut state = STATE.lock().unwrap();
    // As in the kernel, no wake-up is possible between the check and the sleep.
    if word.load(Ordering::Relaxed) == value {
        match state.returns {
            true => state.is_asleep = true,
            false => drop(WOKEN.wait(state).unwrap()),
        }
    }
}

pub fn wake(_word: &AtomicU32, _count: u32) {
    wake_all();
}

pub fn wake_all() {
    STATE.lock().unwrap().is_asleep = false;
    WOKEN.notify_all();
}

pub fn yield_now() {
    thread::yield_now();
}
