//! The gate before the engine: one comparison for each job, unless something is to be done or refused first.

use crate::channel::error::EngineError;
use crate::memory::MAX_JOBS;
use crate::stats::{Counters, Sample};

/// Whether the next job may go to the engine.
#[derive(Debug)]
pub struct Gate {
    /// Jobs before this number pass without a closer look: the channel works, there is room for them, and none is to be timed.
    open_until: u64,
    /// Why no job passes, if none does.
    failure: Option<EngineError>,
    sample: Sample,
}

impl Gate {
    pub fn new() -> Self {
        Self { open_until: 0, failure: None, sample: Sample::new() }
    }

    /// Whether job `number` passes without a closer look.
    #[inline(always)]
    pub fn is_open(&self, number: u64) -> bool {
        number < self.open_until
    }

    /// Takes the closer look at job `number`, which passes; all before `done` are done.
    pub fn look(&mut self, number: u64, done: u64) {
        if self.failure.is_none() {
            self.open_until = self.sample.look(number).min(done + MAX_JOBS as u64);
        }
    }

    pub fn failure(&self) -> Option<&EngineError> {
        self.failure.as_ref()
    }

    /// Lets no job pass from now on.
    pub fn close(&mut self, failure: EngineError) {
        (self.failure, self.open_until) = (Some(failure), 0);
    }

    /// Lets jobs pass again.
    pub fn open(&mut self) {
        self.failure = None;
    }

    /// The job that is timed; no job has such a number if none is.
    pub fn timed(&self) -> u64 {
        self.sample.job()
    }

    /// All jobs up to `number` are finished, and somebody has seen it.
    pub fn seen(&mut self, number: u64, counters: &Counters) {
        if self.timed() <= number {
            self.sample.finish(counters);
            self.open_until = 0;
        }
    }

    /// All jobs before `number` are over.
    pub fn abandon(&mut self, number: u64) {
        self.sample.abandon(number);
        self.open_until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_closes_it_at_once_and_until_it_is_opened() {
        let mut gate = Gate::new();
        gate.look(0, 0);
        gate.look(1, 0);
        assert!(gate.is_open(2) && gate.is_open(MAX_JOBS as u64 - 1));
        gate.close(EngineError::Stopped);
        assert!(!gate.is_open(0));
        gate.look(2, 0);
        assert!(!gate.is_open(2));
        gate.open();
        assert!(!gate.is_open(2), "nothing passes unseen before a look");
        gate.look(2, 0);
        assert!(gate.is_open(3));
    }

    #[test]
    fn it_is_never_open_for_more_than_there_is_room_for() {
        let mut gate = Gate::new();
        for (number, done) in [(0, 0), (1, 0), (100, 40), (5000, 4990)] {
            gate.look(number, done);
            assert!(!gate.is_open(done + MAX_JOBS as u64));
        }
    }

    #[test]
    fn a_job_that_is_timed_is_looked_at_again_when_it_comes_again() {
        let (mut gate, counters) = (Gate::new(), Counters::private().unwrap());
        gate.look(0, 0);
        // It was refused elsewhere, and is timed from its second start on.
        assert!(!gate.is_open(0));
        gate.look(0, 0);
        gate.look(1, 0);
        assert!(gate.is_open(2));
        gate.seen(0, &counters);
        assert_eq!(counters.latencies().count(), 1);
        assert!(!gate.is_open(2), "when the next is timed was not known before");
    }
}
