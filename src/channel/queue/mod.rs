//! The queue of a channel: which jobs are admitted, which are in flight, how they ended.

mod admission;
mod jobs;
mod outcomes;

use super::error::EngineError;
use crate::memory::Running;
use crate::stats::Counters;
use admission::Gate;
use jobs::Jobs;
pub(super) use jobs::{Job, Kept, NEVER, Over, Place};
use outcomes::Outcomes;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Queue {
    jobs: Jobs,
    gate: Gate,
    outcomes: Outcomes,
    /// Number of the channel's first job.
    first: u64,
}

impl Queue {
    /// An empty queue, whose first job will have the number that `running` says.
    pub fn new(running: Arc<Running>) -> Self {
        let first = running.next();
        Self { jobs: Jobs::new(running), gate: Gate::new(), outcomes: Outcomes::new(), first }
    }

    /// Number of the oldest job that is not over.
    #[inline(always)]
    pub fn done(&self) -> u64 {
        self.jobs.done()
    }

    /// Number of the next job.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.jobs.next()
    }

    /// Number of the last job, if there was one.
    pub fn last(&self) -> Option<u64> {
        (self.next() > self.first).then(|| self.next() - 1)
    }

    /// Jobs that are not over.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The oldest of them.
    pub fn front(&self) -> Option<&Place> {
        self.jobs.front()
    }

    /// Whether a job waits for the engine, in part or as a whole.
    #[inline(always)]
    pub fn waits(&self) -> bool {
        self.jobs.wait()
    }

    /// How many do.
    pub fn waiting_count(&self) -> usize {
        self.jobs.waiting_count()
    }

    /// The first of them.
    #[inline(always)]
    pub fn waiting(&self) -> Option<&Place> {
        self.jobs.waiting()
    }

    /// Whether the next job, which is `number`, may be added without a closer look.
    #[inline(always)]
    pub fn admits(&self, number: u64) -> bool {
        self.gate.is_open(number)
    }

    /// The closer look: a job that is timed is timed from here on. Whether there is room.
    pub fn admit(&mut self) -> Result<bool, EngineError> {
        if let Some(failure) = self.gate.failure() {
            return Err(failure.clone());
        }
        if self.jobs.is_full() {
            return Ok(false);
        }
        self.gate.look(self.next(), self.done());
        self.outcomes.watch(self.gate.timed());
        Ok(true)
    }

    /// Why no job is admitted, if none is.
    pub fn failure(&self) -> Option<&EngineError> {
        self.gate.failure()
    }

    /// Admits no job from now on.
    pub fn close(&mut self, failure: EngineError) {
        self.gate.close(failure);
    }

    /// Admits jobs again.
    pub fn reopen(&mut self) {
        self.gate.open();
    }

    /// Adds the next job, which is `number`, was admitted, and is given to the engine at once, as none waits: the engine's count is `end`
    /// when it is finished.
    #[inline(always)]
    pub fn push_given(&mut self, number: u64, job: Job, end: u64) {
        self.jobs.push_given(number, job, end);
    }

    /// Adds the next job, which is `number` and was admitted, to be given to the engine later.
    #[inline(always)]
    pub fn push_waiting(&mut self, number: u64, job: Job, descriptors: u32) {
        self.jobs.push(number, job, descriptors);
    }

    /// The engine was given `count` descriptors of the first job that waits; its count is `end` when it has completed them.
    #[inline(always)]
    pub fn give(&mut self, count: u32, end: u64) {
        self.jobs.give(count, end);
    }

    /// Ends the oldest job if it is finished now that the engine's count is `completed`. It is to be [cleared](Self::clear) next.
    #[inline(always)]
    pub fn finish(&mut self, completed: u64) -> Option<Over> {
        self.jobs.finish(completed)
    }

    /// Lets go of what a job kept that has ended.
    #[inline(always)]
    pub fn clear(&mut self, over: Over) {
        self.jobs.clear(over);
    }

    /// Whether there is nothing to tell of a job but that it is over.
    #[inline(always)]
    pub fn is_plain(&self, number: u64) -> bool {
        self.outcomes.is_plain(number)
    }

    /// How a job ended, which is over.
    pub fn outcome(&mut self, number: u64, counters: &Counters) -> Result<(), EngineError> {
        self.gate.seen(number, counters);
        self.outcomes.watch(self.gate.timed());
        self.outcomes.of(number)
    }

    /// All jobs that are left are not going to be finished. [`end`](Self::end) gives them out.
    pub fn abandon(&mut self, error: EngineError) {
        self.gate.abandon(self.next());
        self.outcomes.lose(self.done()..self.next(), error);
    }

    /// Ends the oldest job, finished or not; also what it kept. It is to be [cleared](Self::clear) next.
    pub fn end(&mut self) -> Option<(Over, Option<&dyn Kept>)> {
        self.jobs.end()
    }
}
