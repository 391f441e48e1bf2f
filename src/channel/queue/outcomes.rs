//! How transfers ended that did not simply finish, for those who ask later.

use crate::channel::error::EngineError;
use std::collections::VecDeque;
use std::ops::Range;

/// How many failures are remembered for tickets that nobody asked about yet.
const MAX_LOST: usize = 1024;

/// Of the tickets whose jobs are over: which have something to tell.
#[derive(Debug)]
pub struct Outcomes {
    /// Tickets before this number finished, and there is no more to it.
    plain_until: u64,
    /// Tickets whose transfers did not finish, and why; those before `forgotten` are no longer known.
    lost: VecDeque<(Range<u64>, EngineError)>,
    forgotten: u64,
}

impl Outcomes {
    pub fn new() -> Self {
        Self { plain_until: u64::MAX, lost: VecDeque::new(), forgotten: 0 }
    }

    /// Whether a ticket simply finished, if it is over.
    #[inline(always)]
    pub fn is_plain(&self, number: u64) -> bool {
        number < self.plain_until
    }

    /// Tickets from `number` on are not plain.
    pub fn watch(&mut self, number: u64) {
        self.plain_until = if self.lost.is_empty() { number } else { 0 };
    }

    /// These tickets ended with `error`.
    pub fn lose(&mut self, range: Range<u64>, error: EngineError) {
        if !range.is_empty() {
            self.lost.push_back((range, error));
            self.plain_until = 0;
        }
        if self.lost.len() > MAX_LOST
            && let Some((range, _)) = self.lost.pop_front()
        {
            self.forgotten = range.end;
        }
    }

    /// How a ticket ended, which is over.
    pub fn of(&self, number: u64) -> Result<(), EngineError> {
        if number < self.forgotten {
            return Err(EngineError::TooOld);
        }
        match self.lost.iter().find(|(range, _)| range.contains(&number)) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_something_was_lost_no_ticket_is_plain() {
        let mut outcomes = Outcomes::new();
        assert!(outcomes.is_plain(0));
        outcomes.watch(7);
        assert!(outcomes.is_plain(6) && !outcomes.is_plain(7));
        outcomes.lose(3..3, EngineError::NoEvent);
        assert!(outcomes.is_plain(6), "nothing was lost");
        outcomes.lose(3..5, EngineError::NoEvent);
        outcomes.watch(u64::MAX);
        assert!(!outcomes.is_plain(0));
        for (number, is_lost) in [(2, false), (3, true), (4, true), (5, false)] {
            assert_eq!(outcomes.of(number).is_err(), is_lost, "{number}");
        }
    }

    #[test]
    fn the_oldest_failures_are_forgotten_and_that_is_said() {
        let mut outcomes = Outcomes::new();
        (0..=MAX_LOST as u64)
            .for_each(|number| outcomes.lose(2 * number..2 * number + 1, EngineError::Stopped));
        assert!(matches!(outcomes.of(0), Err(EngineError::TooOld)));
        assert!(matches!(outcomes.of(2), Err(EngineError::Stopped)));
        outcomes.of(3).unwrap();
    }
}
