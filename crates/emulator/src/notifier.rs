//! How a channel's thread sleeps and is woken, without losing a wake-up.

use super::log::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Rings are counted, so that one that falls between looking for work and going to sleep is not lost. Ringing costs
/// two atomic operations while nobody sleeps, since custom logic rings on every step it makes.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rings: AtomicU64,
    sleeping: AtomicBool,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Bell {
    /// Works each time that the bell rang, or that the work's deadline passed, until it is over. Whoever ends it says so first
    /// and rings then.
    pub fn attend(&self, over: impl Fn() -> bool, mut work: impl FnMut() -> Option<Instant>) {
        loop {
            // Counted before looking for work, and for the end too: one that comes in between has rung since.
            let seen = self.rings();
            if over() {
                return;
            }
            self.wait(seen, work());
        }
    }

    fn rings(&self) -> u64 {
        self.rings.load(Ordering::SeqCst)
    }

    pub fn ring(&self) {
        // Sequential consistency on both sides: either the sleeper sees the new count, or this sees it sleeping.
        self.rings.fetch_add(1, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) {
            drop(lock(&self.lock));
            self.woken.notify_all();
        }
    }

    /// Sleeps until the count is no longer `seen`, or until the deadline. One thread at a time.
    fn wait(&self, seen: u64, deadline: Option<Instant>) {
        let mut guard = lock(&self.lock);
        self.sleeping.store(true, Ordering::SeqCst);
        while self.rings() == seen {
            guard = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => self.woken.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_deadline_ends_the_sleep() {
        let (bell, start) = (Bell::default(), Instant::now());
        bell.wait(bell.rings(), Some(start + Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn an_end_that_comes_while_it_is_asked_for_is_not_slept_through() {
        let (bell, asked) = (Bell::default(), AtomicU64::new(0));
        let over = || {
            let before = asked.fetch_add(1, Ordering::SeqCst);
            // The end comes right after it was asked for the first time.
            bell.ring();
            before > 0
        };
        let soon = Instant::now() + Duration::from_secs(10);
        bell.attend(over, || Some(soon));
        assert!(Instant::now() < soon, "only the deadline ended it");
    }

    #[test]
    fn no_ring_is_lost() {
        let (bell, heard) = (Arc::new(Bell::default()), Arc::new(AtomicU64::new(0)));
        let sleeper = {
            let (bell, heard) = (Arc::clone(&bell), Arc::clone(&heard));
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    let seen = heard.load(Ordering::SeqCst);
                    bell.wait(seen, None);
                    heard.store(seen + 1, Ordering::SeqCst);
                }
            })
        };
        for round in 0..1000 {
            bell.ring();
            while heard.load(Ordering::SeqCst) != round + 1 {
                std::thread::yield_now();
            }
        }
        sleeper.join().unwrap();
    }
}
