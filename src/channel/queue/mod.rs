//! The job queue of a channel: admission, jobs in flight, and their outcomes.

mod admission;
mod jobs;
mod outcomes;

use super::error::{EngineError, PollError};
use crate::memory::Running;
use crate::stats::Counters;
use admission::Admission;
use jobs::Jobs;
pub(super) use jobs::{Ended, Entry, Job, NEVER, Pinned};
use outcomes::Outcomes;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Queue {
    jobs: Jobs,
    admission: Admission,
    outcomes: Outcomes,
    /// Number of the channel's first job.
    first: u64,
}

impl Queue {
    /// Creates an empty queue. Its first job gets the next number of `running`.
    pub fn new(running: Arc<Running>) -> Self {
        let first = running.next();
        Self { jobs: Jobs::new(running), admission: Admission::new(), outcomes: Outcomes::new(), first }
    }

    /// Returns the number of the oldest job that has not ended.
    #[inline(always)]
    pub fn done(&self) -> u64 {
        self.jobs.done()
    }

    /// Returns the number that the next submitted job gets.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.jobs.next()
    }

    /// Returns the number of the latest job, if there is one.
    pub fn last(&self) -> Option<u64> {
        (self.next() > self.first).then(|| self.next() - 1)
    }

    /// Returns the number of jobs that have not ended.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns the oldest job that has not ended.
    pub fn front(&self) -> Option<&Entry> {
        self.jobs.front()
    }

    /// Returns whether any job has descriptors that have not been posted.
    #[inline(always)]
    pub fn has_waiting(&self) -> bool {
        self.jobs.has_waiting()
    }

    /// Returns the number of jobs with descriptors that have not been posted.
    pub fn waiting_count(&self) -> usize {
        self.jobs.waiting_count()
    }

    /// Returns whether job `number` has descriptors that have not been posted.
    pub fn is_waiting(&self, number: u64) -> bool {
        number >= self.next() - self.waiting_count() as u64
    }

    /// Returns the first job with descriptors that have not been posted.
    #[inline(always)]
    pub fn waiting(&self) -> Option<&Entry> {
        self.jobs.waiting()
    }

    /// Returns whether the next job, which is `number`, is admitted without inspection.
    #[inline(always)]
    pub fn admits(&self, number: u64) -> bool {
        self.admission.is_open(number)
    }

    /// Inspects the next job, and starts its timer if it is to be timed. Returns whether the queue has room for it.
    pub fn admit(&mut self) -> Result<bool, EngineError> {
        if let Some(failure) = self.admission.failure() {
            return Err(failure.clone());
        }
        if self.jobs.is_full() {
            return Ok(false);
        }
        self.admission.extend(self.next(), self.done());
        self.outcomes.set_plain_until(self.admission.timed());
        Ok(true)
    }

    /// Returns why no job is admitted, if the channel failed.
    pub fn failure(&self) -> Option<&EngineError> {
        self.admission.failure()
    }

    /// Rejects all jobs from now on.
    pub fn close(&mut self, failure: EngineError) {
        self.admission.close(failure);
    }

    /// Admits jobs again.
    pub fn reopen(&mut self) {
        self.admission.open();
    }

    /// Adds the next job, which is `number` and was admitted, and is about to be posted as a whole because no other job waits.
    /// It is finished when the engine's completion count is `end`.
    #[inline(always)]
    pub fn push_posted(&mut self, number: u64, job: Job, end: u64) {
        self.jobs.push_posted(number, job, end);
    }

    /// Adds the next job, which is `number` and was admitted. None of its descriptors have been posted.
    #[inline(always)]
    pub fn push_waiting(&mut self, number: u64, job: Job, descriptors: u32) {
        self.jobs.push(number, job, descriptors);
    }

    /// Records that `count` descriptors of the first waiting job were posted. The engine's completion count is `end` once it
    /// has completed them.
    #[inline(always)]
    pub fn post(&mut self, count: u32, end: u64) {
        self.jobs.post(count, end);
    }

    /// Ends job `number`, the oldest, if it is finished at a count of `completed`.
    #[inline(always)]
    pub fn finish(&mut self, number: u64, completed: u64) -> Option<Ended<'_>> {
        self.jobs.finish(number, completed)
    }

    /// Returns whether a job finished normally and was not timed, if it has ended.
    #[inline(always)]
    pub fn is_plain(&self, number: u64) -> bool {
        self.outcomes.is_plain(number)
    }

    /// Returns how a job ended.
    pub fn outcome(&mut self, number: u64, counters: &Counters) -> Result<(), PollError> {
        self.admission.record_finished(number, counters);
        self.outcomes.set_plain_until(self.admission.timed());
        self.outcomes.get(number)
    }

    /// Records that none of the remaining jobs will finish. [`end`](Self::end) removes them.
    pub fn abandon(&mut self, error: EngineError) {
        self.admission.abandon(self.next());
        self.outcomes.record_failure(self.done()..self.next(), error);
    }

    /// Ends the oldest job, finished or not.
    pub fn end(&mut self) -> Option<Ended<'_>> {
        self.jobs.end()
    }
}
