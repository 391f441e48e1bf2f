//! The clock of a simulated design: a thread that runs while the design has something to do, and yields to callers.

use super::log::lock;
use super::notifier::Notifier;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// A design that a [`Clock`] runs.
pub(super) trait Simulation: Send {
    /// Runs some clocks. Returns whether there is nothing to do until the next notification or [`Simulation::wake`].
    fn slice(&mut self) -> bool;

    /// Returns the time at which there is something to do again, if it is known.
    fn wake(&self) -> Option<Instant>;
}

/// A simulated design and its clock.
pub(super) struct Clock<S> {
    simulation: Mutex<S>,
    notifier: Notifier,
    quit: AtomicBool,
    /// The number of callers that wait for the simulation.
    callers: AtomicUsize,
}

impl<S: Simulation> Clock<S> {
    pub fn new(simulation: S) -> Self {
        Self {
            simulation: Mutex::new(simulation),
            notifier: Notifier::default(),
            quit: AtomicBool::new(false),
            callers: AtomicUsize::new(0),
        }
    }

    /// Runs the clock's thread.
    pub fn run(&self) {
        let over = || self.quit.load(Ordering::Acquire);
        self.notifier.run_until(over, || {
            while !over() && !lock(&self.simulation).slice() {
                // Mutexes are not fair, so this thread, which holds the lock for long, has to yield explicitly.
                while self.callers.load(Ordering::Acquire) > 0 {
                    thread::yield_now();
                }
            }
            lock(&self.simulation).wake()
        });
    }

    pub fn quit(&self) {
        self.quit.store(true, Ordering::Release);
        self.notifier.notify();
    }

    /// Continues a clock that had nothing to do.
    pub fn notify(&self) {
        self.notifier.notify();
    }

    /// Calls `f` with the simulation, before the clock's thread continues.
    pub fn with<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
        self.callers.fetch_add(1, Ordering::AcqRel);
        let mut simulation = lock(&self.simulation);
        self.callers.fetch_sub(1, Ordering::AcqRel);
        let result = f(&mut simulation);
        drop(simulation);
        self.notify();
        result
    }
}

/// Sets the level of an interrupt request.
pub(super) fn set_level(levels: &AtomicU32, line: usize, level: bool) {
    let bit = 1u32.checked_shl(line as u32).unwrap_or(0);
    match level {
        true => levels.fetch_or(bit, Ordering::AcqRel),
        false => levels.fetch_and(!bit, Ordering::AcqRel),
    };
}
