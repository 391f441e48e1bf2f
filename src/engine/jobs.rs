//! Jobs in flight and queued: a ring in which a job's place is the number of its ticket.

use super::program::Inner;
use std::sync::Arc;

/// Jobs that may be in flight or queued; a power of two.
pub(super) const MAX_JOBS: usize = 256;
/// No count of completed descriptors.
pub(super) const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Job {
    /// What it runs; without it, descriptors of the ring.
    pub program: Option<Arc<Inner>>,
    /// Device address of its first descriptor.
    pub first: u64,
    pub bytes: u64,
    pub descriptors: u32,
    /// Descriptors that the engine has yet to be given.
    left: u32,
    /// How many descriptors the engine has completed since it was started when it has completed this job.
    end: u64,
}

impl Job {
    #[inline]
    pub fn new(program: Option<Arc<Inner>>, first: u64, descriptors: u32, bytes: u64) -> Self {
        Self { program, first, bytes, descriptors, left: descriptors, end: NEVER }
    }

    /// Descriptors that the engine has yet to be given.
    #[inline]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// How many descriptors the engine has completed since it was started when it has completed this job: no such number
    /// as long as it was not given all.
    #[inline]
    pub fn end(&self) -> u64 {
        self.end
    }
}

#[derive(Debug)]
pub(super) struct Jobs {
    places: Box<[Job; MAX_JOBS]>,
    /// Numbers of the oldest job, of the oldest that the engine was not given in full, and of the one to come.
    done: u64,
    given: u64,
    next: u64,
}

impl Jobs {
    /// None yet; the first will have the number `first`.
    pub fn new(first: u64) -> Self {
        Self { places: Box::new([const { EMPTY }; MAX_JOBS]), done: first, given: first, next: first }
    }

    /// Number of the oldest job that is not done.
    #[inline]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Number of the next job.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    #[inline]
    pub fn len(&self) -> usize {
        (self.next - self.done) as usize
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == MAX_JOBS
    }

    /// Whether a job waits for the engine, in part or as a whole.
    #[inline]
    pub fn wait(&self) -> bool {
        self.given != self.next
    }

    /// How many jobs wait for the engine, in part or as a whole.
    pub fn waiting_count(&self) -> usize {
        (self.next - self.given) as usize
    }

    /// The first job that waits for the engine.
    #[inline]
    pub fn waiting(&self) -> Option<&Job> {
        self.wait().then(|| &self.places[self.given as usize % MAX_JOBS])
    }

    /// Whether the first job that waits is the oldest of all: the engine has none before it.
    #[inline]
    pub fn first_waits(&self) -> bool {
        self.given == self.done
    }

    /// Notes that the engine was given `count` more descriptors of the first job that waits, the last of which will be the
    /// `end`-th that it completes.
    #[inline(always)]
    pub fn give(&mut self, count: u32, end: u64) {
        let job = &mut self.places[self.given as usize % MAX_JOBS];
        job.left -= count;
        if job.left == 0 {
            job.end = end;
            self.given += 1;
        }
    }

    #[inline(always)]
    pub fn front(&self) -> Option<&Job> {
        (self.done != self.next).then(|| &self.places[self.done as usize % MAX_JOBS])
    }

    /// Adds a job; there is room.
    #[inline(always)]
    pub fn push(&mut self, job: Job) {
        let place = &mut self.places[self.next as usize % MAX_JOBS];
        debug_assert!(place.program.is_none(), "jobs are counted before they are pushed");
        // There is nothing to drop.
        std::mem::forget(std::mem::replace(place, job));
        self.next += 1;
    }

    /// Takes the oldest job out: what it ran, and its descriptors and bytes.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<(Option<Arc<Inner>>, u32, u64)> {
        if self.done == self.next {
            return None;
        }
        let job = &mut self.places[self.done as usize % MAX_JOBS];
        self.done += 1;
        Some((job.program.take(), job.descriptors, job.bytes))
    }

    /// All jobs were taken out, those that waited too.
    pub fn forget_waiting(&mut self) {
        self.given = self.next;
    }
}

const EMPTY: Job = Job { program: None, first: 0, bytes: 0, descriptors: 0, left: 0, end: NEVER };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        Give(u32),
        Pop,
        Abandon,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1u32..2000).prop_map(Step::Push),
            8 => (0u32..1024).prop_map(Step::Give),
            6 => Just(Step::Pop),
            1 => Just(Step::Abandon),
        ];
        prop::collection::vec(step, 1..600)
    }

    proptest! {
        /// Against a queue of what each job still wants: the engine gets all of a job before anything of the next, ends
        /// are counted on, and jobs leave in order.
        #[test]
        fn jobs_are_a_queue(steps in steps()) {
            let (mut jobs, mut model, mut pushed, mut given) = (Jobs::new(0), VecDeque::new(), 0, 0);
            for step in steps {
                match step {
                    Step::Push(descriptors) if !jobs.is_full() => {
                        jobs.push(Job::new(None, pushed, descriptors, descriptors.into()));
                        model.push_back((pushed, descriptors, descriptors, NEVER));
                        pushed += 1;
                    }
                    Step::Give(most) => {
                        let first = model.iter_mut().find(|job| job.2 > 0);
                        let seen = jobs.waiting().map(|job| (job.first, job.left()));
                        prop_assert_eq!(seen, first.as_ref().map(|job| (job.0, job.2)));
                        if let Some(job) = first {
                            let count = most.min(job.2);
                            given += u64::from(count);
                            jobs.give(count, given);
                            job.2 -= count;
                            job.3 = if job.2 == 0 { given } else { NEVER };
                        }
                    }
                    // The engine completes only what it was given.
                    Step::Pop if model.front().is_some_and(|job| job.2 == 0) => {
                        let (_, descriptors, bytes) = jobs.pop().unwrap();
                        let (_, expected, _, _) = model.pop_front().unwrap();
                        prop_assert_eq!((descriptors, bytes), (expected, expected.into()));
                    }
                    Step::Abandon => {
                        prop_assert_eq!(std::iter::from_fn(|| jobs.pop()).count(), model.len());
                        jobs.forget_waiting();
                        model.clear();
                    }
                    Step::Push(_) | Step::Pop => {}
                }
                prop_assert_eq!((jobs.len(), jobs.is_full()), (model.len(), model.len() == MAX_JOBS));
                prop_assert_eq!((jobs.next(), jobs.done()), (pushed, pushed - model.len() as u64));
                prop_assert_eq!(jobs.wait(), model.iter().any(|job| job.2 > 0));
                prop_assert_eq!(jobs.first_waits(), model.front().is_none_or(|job| job.2 > 0));
                let front = jobs.front().map(|job| (job.first, job.left(), job.end()));
                prop_assert_eq!(front, model.front().map(|job| (job.0, job.2, job.3)));
            }
        }
    }
}
