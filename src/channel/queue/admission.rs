//! Admission control for the engine. In the common case it is one comparison per job; the slow path rejects jobs, and selects
//! those that are timed.

use crate::channel::error::EngineError;
use crate::memory::MAX_JOBS;
use crate::stats::{Counters, LatencySampler};

/// Decides whether the next job may be posted to the engine.
#[derive(Debug)]
pub struct Admission {
    /// Jobs with smaller numbers are admitted without inspection: the channel works, the queue has room for them, and none of
    /// them is timed.
    open_until: u64,
    /// The failure for which every job is rejected, if there is one.
    failure: Option<EngineError>,
    sampler: LatencySampler,
}

impl Admission {
    pub fn new() -> Self {
        Self { open_until: 0, failure: None, sampler: LatencySampler::new() }
    }

    /// Returns whether job `number` may skip the inspection.
    #[inline(always)]
    pub fn is_open(&self, number: u64) -> bool {
        number < self.open_until
    }

    /// Called for job `number` when it is admitted. Decides whether it is timed, and which jobs after it are admitted without
    /// inspection. All jobs before `done` are done.
    pub fn extend(&mut self, number: u64, done: u64) {
        if self.failure.is_none() {
            self.open_until = self.sampler.on_submit(number).min(done + MAX_JOBS as u64);
        }
    }

    pub fn failure(&self) -> Option<&EngineError> {
        self.failure.as_ref()
    }

    /// Rejects all jobs from now on.
    pub fn close(&mut self, failure: EngineError) {
        (self.failure, self.open_until) = (Some(failure), 0);
    }

    /// Admits jobs again.
    pub fn open(&mut self) {
        self.failure = None;
    }

    /// Returns the number of the job that is timed, or a number that no job has.
    pub fn timed(&self) -> u64 {
        self.sampler.job()
    }

    /// Records that all jobs up to `number` are finished, and that the program has observed it.
    pub fn record_finished(&mut self, number: u64, counters: &Counters) {
        if self.timed() <= number {
            self.sampler.finish(counters);
            self.open_until = 0;
        }
    }

    /// Records that all jobs before `number` have ended.
    pub fn abandon(&mut self, number: u64) {
        self.sampler.abandon(number);
        self.open_until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_closes_it_until_it_is_opened() {
        let mut admission = Admission::new();
        admission.extend(0, 0);
        admission.extend(1, 0);
        assert!(admission.is_open(2) && admission.is_open(MAX_JOBS as u64 - 1));
        admission.close(EngineError::Stopped);
        assert!(!admission.is_open(0));
        admission.extend(2, 0);
        assert!(!admission.is_open(2));
        admission.open();
        assert!(!admission.is_open(2), "nothing is admitted without an inspection");
        admission.extend(2, 0);
        assert!(admission.is_open(3));
    }

    #[test]
    fn it_never_admits_more_jobs_than_the_queue_holds() {
        let mut admission = Admission::new();
        for (number, done) in [(0, 0), (1, 0), (100, 40), (5000, 4990)] {
            admission.extend(number, done);
            assert!(!admission.is_open(done + MAX_JOBS as u64));
        }
    }

    #[test]
    fn a_timed_job_is_inspected_again_when_it_is_resubmitted() {
        let (mut admission, counters) = (Admission::new(), Counters::private().unwrap());
        admission.extend(0, 0);
        // Another check rejects the job, and it is submitted again: its time starts with the second submission.
        assert!(!admission.is_open(0));
        admission.extend(0, 0);
        admission.extend(1, 0);
        assert!(admission.is_open(2));
        admission.record_finished(0, &counters);
        assert_eq!(counters.latencies().count(), 1);
        assert!(!admission.is_open(2), "the next timed job was not known before");
    }
}
