//! The job queue of a channel: admission, jobs in flight, and their outcomes.

mod admission;
mod jobs;
mod outcomes;

use super::error::{EngineError, PollError};
use crate::memory::Running;
use crate::stats::Counters;
use admission::Admission;
use jobs::Jobs;
pub(super) use jobs::{Ended, Entry, Job, Pinned};
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

    /// Returns the number of the first job with descriptors that have not been posted, or that of the next job. The engine has been
    /// given `posted` descriptors.
    pub fn first_waiting(&self, posted: u64) -> u64 {
        self.jobs.first_waiting(posted)
    }

    /// Returns job `number`, which has not ended.
    #[inline(always)]
    pub fn get(&self, number: u64) -> &Entry {
        self.jobs.get(number)
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
        self.update_plain();
        Ok(true)
    }

    /// Returns why no job is admitted, if the channel failed.
    pub fn failure(&self) -> Option<&EngineError> {
        self.admission.failure()
    }

    /// Rejects all jobs from now on.
    pub fn close(&mut self, failure: EngineError) {
        self.outcomes.set_plain_until(0);
        self.admission.close(failure);
    }

    /// Admits jobs again.
    pub fn reopen(&mut self) {
        self.admission.open();
        self.update_plain();
    }

    /// Adds the next job, which is `number` and was admitted, and is about to be posted as a whole because no other job waits.
    /// It is finished when the engine's completion count is `end`.
    #[inline(always)]
    pub fn push_posted(&mut self, number: u64, job: Job, end: u64) {
        self.jobs.push_posted(number, job, end);
    }

    /// Adds the next job, which is `number` and was admitted. It waits for the engine. `posted` descriptors have been
    /// posted so far.
    #[inline(always)]
    pub fn push_waiting(&mut self, number: u64, job: Job, descriptors: u64, posted: u64) {
        self.jobs.push(number, job, descriptors, posted);
    }

    /// Records that `count` more descriptors of the first waiting job are posted.
    #[inline(always)]
    pub fn post(&mut self, count: u64) {
        self.jobs.post(count);
    }

    /// Ensures that job `number` does not finish: posting it failed, but the engine may have received it.
    pub fn hold(&mut self, number: u64) {
        self.jobs.hold(number);
    }

    /// Returns whether job `number`, the oldest or the next, is finished at a count of `completed`.
    #[inline(always)]
    pub fn is_finished(&self, number: u64, completed: u64) -> bool {
        self.jobs.is_finished(number, completed)
    }

    /// Ends job `number`, the oldest.
    #[inline(always)]
    pub fn end(&mut self, number: u64) -> Ended<'_> {
        self.jobs.end(number)
    }

    /// Returns whether a job finished normally and was not timed, if it has ended.
    #[inline(always)]
    pub fn is_plain(&self, number: u64) -> bool {
        self.outcomes.is_plain(number)
    }

    /// Returns how a job ended.
    pub fn outcome(&mut self, number: u64, counters: &Counters) -> Result<(), PollError> {
        self.admission.record_finished(number, counters);
        self.update_plain();
        self.outcomes.get(number)
    }

    /// Requires a query for the timed job, and for all after a failure.
    fn update_plain(&mut self) {
        let is_closed = self.admission.failure().is_some();
        self.outcomes.set_plain_until(if is_closed { 0 } else { self.admission.timed() });
    }

    /// Records that none of the remaining jobs will finish. [`end_any`](Self::end_any) removes them.
    pub fn abandon(&mut self, error: EngineError) {
        self.admission.abandon(self.next());
        self.outcomes.record_failure(self.done()..self.next(), error);
    }

    /// Ends the oldest job, finished or not.
    pub fn end_any(&mut self) -> Option<Ended<'_>> {
        self.jobs.end_any()
    }
}
