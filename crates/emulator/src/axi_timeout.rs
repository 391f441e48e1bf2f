//! What AWS' shell does with an AXI transaction that the custom logic leaves unanswered (AWS "Shell Interface
//! Specification", and "How to detect a shell timeout").
//!
//! After a limit (5 s for XDMA) the shell ends the transaction itself: written data vanishes, reads give all ones. Then every
//! further transaction is ended at once, for 4 ms. Which response XDMA sees is not documented; here it is OKAY, so
//! that the transfer ends as if it had succeeded: the case that a driver cannot see.

use super::log::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long transactions are ended at once after one timed out.
const IMPATIENCE: Duration = Duration::from_millis(4);

/// The shell's timer, one for all channels.
#[derive(Debug)]
pub(super) struct AxiTimeout {
    limit: Option<Duration>,
    impatient_until: Mutex<Option<Instant>>,
}

impl AxiTimeout {
    /// Without a limit nothing is ever ended.
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, impatient_until: Mutex::new(None) }
    }

    /// When the shell ends a transaction that has waited since then.
    pub fn deadline(&self, since: Instant) -> Option<Instant> {
        since.checked_add(self.limit?)
    }

    /// Whether the shell ends a transaction at `now`, which has waited since then or is new.
    #[inline]
    pub fn ends(&self, since: Option<Instant>, now: impl FnOnce() -> Instant) -> bool {
        self.limit.is_some() && self.ends_at(since, now())
    }

    fn ends_at(&self, since: Option<Instant>, now: Instant) -> bool {
        let mut until = lock(&self.impatient_until);
        if until.is_some_and(|until| now < until) {
            return true;
        }
        let over = since.and_then(|since| self.deadline(since)).is_some_and(|deadline| now >= deadline);
        if over {
            *until = Some(now + IMPATIENCE);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_out_is_followed_by_4_ms_without_patience() {
        let (shell, start) = (AxiTimeout::new(Some(Duration::from_secs(5))), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!shell.ends(None, || at(0)));
        assert!(!shell.ends(Some(start), || at(4999)));
        assert!(shell.ends(Some(start), || at(5000)));
        assert!(shell.ends(None, || at(5000)) && shell.ends(None, || at(5003)), "new ones end at once");
        assert!(!shell.ends(None, || at(5004)) && !shell.ends(Some(at(5000)), || at(5004)));
        assert!(shell.ends(Some(at(5000)), || at(10_000)), "and then it is as before");
    }

    #[test]
    fn without_a_limit_nothing_ends() {
        let (shell, start) = (AxiTimeout::new(None), Instant::now());
        assert!(!shell.ends(Some(start), || start + Duration::from_secs(3600)));
        assert_eq!(shell.deadline(start), None);
    }
}
