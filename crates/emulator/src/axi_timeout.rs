//! The AWS shell's timeout for AXI transactions that the custom logic does not answer (AWS "Shell Interface Specification", and
//! "How to detect a shell timeout").
//!
//! When the limit expires (5 s for XDMA), the shell ends the transaction itself: written data is lost and reads return all ones.
//! For the next 4 ms it ends every further transaction immediately. Which response XDMA sees is not documented. The model returns
//! OKAY, so the transfer completes as if it had succeeded: the case that a driver cannot detect.

use super::log::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time after a timeout during which transactions are ended immediately.
const FAST_TIMEOUT_WINDOW: Duration = Duration::from_millis(4);

/// The shell's timer, shared by all channels.
#[derive(Debug)]
pub(super) struct AxiTimeout {
    limit: Option<Duration>,
    fast_until: Mutex<Option<Instant>>,
}

impl AxiTimeout {
    /// Creates the timer. Without a limit, no transaction ever times out.
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, fast_until: Mutex::new(None) }
    }

    /// Returns the time at which the shell ends a transaction that has been waiting since `since`.
    pub fn deadline(&self, since: Instant) -> Option<Instant> {
        since.checked_add(self.limit?)
    }

    /// Returns whether the shell ends a transaction at `now`. `since` is when it began to wait; `None` for a new transaction.
    #[inline]
    pub fn expires(&self, since: Option<Instant>, now: impl FnOnce() -> Instant) -> bool {
        self.limit.is_some() && self.expires_at(since, now())
    }

    fn expires_at(&self, since: Option<Instant>, now: Instant) -> bool {
        let mut until = lock(&self.fast_until);
        if until.is_some_and(|until| now < until) {
            return true;
        }
        let over = since.and_then(|since| self.deadline(since)).is_some_and(|deadline| now >= deadline);
        if over {
            *until = Some(now + FAST_TIMEOUT_WINDOW);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_followed_by_4_ms_of_immediate_timeouts() {
        let (shell, start) = (AxiTimeout::new(Some(Duration::from_secs(5))), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!shell.expires(None, || at(0)));
        assert!(!shell.expires(Some(start), || at(4999)));
        assert!(shell.expires(Some(start), || at(5000)));
        assert!(
            shell.expires(None, || at(5000)) && shell.expires(None, || at(5003)),
            "new transactions end immediately"
        );
        assert!(!shell.expires(None, || at(5004)) && !shell.expires(Some(at(5000)), || at(5004)));
        assert!(shell.expires(Some(at(5000)), || at(10_000)), "the full limit applies again");
    }

    #[test]
    fn without_a_limit_nothing_times_out() {
        let (shell, start) = (AxiTimeout::new(None), Instant::now());
        assert!(!shell.expires(Some(start), || start + Duration::from_secs(3600)));
        assert_eq!(shell.deadline(start), None);
    }
}
