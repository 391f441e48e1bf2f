//! Outcomes of jobs that did not finish normally, kept for later queries.

use crate::channel::error::{EngineError, PollError};
use std::collections::VecDeque;
use std::ops::Range;

/// Maximum number of failures that are kept for tickets that have not been queried.
const MAX_FAILURES: usize = 1024;

/// The outcomes of jobs that did not simply finish.
#[derive(Debug)]
pub struct Outcomes {
    /// Jobs before this number finished normally, and were not timed.
    plain_until: u64,
    /// Ranges of jobs that did not finish, and why. Those before `forgotten_before` have been discarded.
    failures: VecDeque<(Range<u64>, EngineError)>,
    forgotten_before: u64,
}

impl Outcomes {
    pub fn new() -> Self {
        Self { plain_until: u64::MAX, failures: VecDeque::new(), forgotten_before: 0 }
    }

    /// Returns whether a job finished normally, if it has ended.
    #[inline(always)]
    pub fn is_plain(&self, number: u64) -> bool {
        number < self.plain_until
    }

    /// Requires a query for each job from `number` on.
    pub fn set_plain_until(&mut self, number: u64) {
        self.plain_until = if self.failures.is_empty() { number } else { 0 };
    }

    /// Records that the jobs in `range` ended with `error`.
    pub fn record_failure(&mut self, range: Range<u64>, error: EngineError) {
        if !range.is_empty() {
            self.failures.push_back((range, error));
            self.plain_until = 0;
        }
        if self.failures.len() > MAX_FAILURES
            && let Some((range, _)) = self.failures.pop_front()
        {
            self.forgotten_before = range.end;
        }
    }

    /// Returns how a job ended.
    pub fn get(&self, number: u64) -> Result<(), PollError> {
        if number < self.forgotten_before {
            return Err(PollError::TooOld);
        }
        // The ranges are in order.
        let at = self.failures.partition_point(|(range, _)| range.end <= number);
        match self.failures.get(at) {
            Some((range, error)) if range.contains(&number) => Err(error.clone().into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_no_ticket_is_plain() {
        let mut outcomes = Outcomes::new();
        assert!(outcomes.is_plain(0));
        outcomes.set_plain_until(7);
        assert!(outcomes.is_plain(6) && !outcomes.is_plain(7));
        outcomes.record_failure(3..3, EngineError::Stopped);
        assert!(outcomes.is_plain(6), "no job failed");
        outcomes.record_failure(3..5, EngineError::Stopped);
        outcomes.set_plain_until(u64::MAX);
        assert!(!outcomes.is_plain(0));
        for (number, has_failed) in [(2, false), (3, true), (4, true), (5, false)] {
            assert_eq!(outcomes.get(number).is_err(), has_failed, "{number}");
        }
    }

    #[test]
    fn discarded_failures_are_reported_as_too_old() {
        let mut outcomes = Outcomes::new();
        (0..=MAX_FAILURES as u64)
            .for_each(|number| outcomes.record_failure(2 * number..2 * number + 1, EngineError::Stopped));
        assert!(matches!(outcomes.get(0), Err(PollError::TooOld)));
        assert!(matches!(outcomes.get(2), Err(PollError::Engine(EngineError::Stopped))));
        outcomes.get(3).unwrap();
    }
}
