//! Sleep and wake-up of a channel's thread, without lost notifications.

use super::log::lock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A notification counter with a condition variable.
///
/// Notifications are counted, so one that arrives between the check for work and the sleep is not lost. Custom logic notifies on
/// every step, so `notify` costs only two atomic operations while no thread sleeps.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    generation: AtomicU64,
    sleeping: AtomicBool,
    lock: Mutex<()>,
    woken: Condvar,
}

impl Notifier {
    /// Calls `work` after every notification and whenever the deadline returned by `work` passes, until `over` returns true. To
    /// stop the loop, make `over` return true first, and then notify.
    pub fn run_until(&self, over: impl Fn() -> bool, mut work: impl FnMut() -> Option<Instant>) {
        loop {
            // Read the counter before checking for the end and for work: a notification in between then cuts the wait short.
            let seen = self.generation();
            if over() {
                return;
            }
            self.wait(seen, work());
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub fn notify(&self) {
        // Sequential consistency on both sides: either the sleeper sees the new count, or this thread sees the sleeper.
        self.generation.fetch_add(1, Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) {
            drop(lock(&self.lock));
            self.woken.notify_all();
        }
    }

    /// Sleeps until the counter differs from `seen`, or until the deadline. Supports only one waiting thread at a time.
    fn wait(&self, seen: u64, deadline: Option<Instant>) {
        let mut guard = lock(&self.lock);
        self.sleeping.store(true, Ordering::SeqCst);
        while self.generation() == seen {
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
        let (notifier, start) = (Notifier::default(), Instant::now());
        notifier.wait(notifier.generation(), Some(start + Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn a_stop_during_the_check_is_not_missed() {
        let (notifier, checks) = (Notifier::default(), AtomicU64::new(0));
        let over = || {
            let before = checks.fetch_add(1, Ordering::SeqCst);
            // The stop arrives right after the first check.
            notifier.notify();
            before > 0
        };
        let soon = Instant::now() + Duration::from_secs(10);
        notifier.run_until(over, || Some(soon));
        assert!(Instant::now() < soon, "only the deadline ended the wait");
    }

    #[test]
    fn no_notification_is_lost() {
        let (notifier, received) = (Arc::new(Notifier::default()), Arc::new(AtomicU64::new(0)));
        let sleeper = {
            let (notifier, received) = (Arc::clone(&notifier), Arc::clone(&received));
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    let seen = received.load(Ordering::SeqCst);
                    notifier.wait(seen, None);
                    received.store(seen + 1, Ordering::SeqCst);
                }
            })
        };
        for round in 0..1000 {
            notifier.notify();
            while received.load(Ordering::SeqCst) != round + 1 {
                std::thread::yield_now();
            }
        }
        sleeper.join().unwrap();
    }
}
