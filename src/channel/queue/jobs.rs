//! Jobs in flight and queued: a ring in which a job's place is the number of its ticket.

use crate::channel::slots::Slots;
use crate::channel::start::Start;
use crate::memory::{Allocation, MAX_JOBS, Running};
use std::fmt::Debug;
use std::sync::Arc;

/// No count of completed descriptors.
pub const NEVER: u64 = u64::MAX;

/// What a job keeps until the engine is done with it. Only a pointer that knows how to drop what it points to makes all jobs alike.
pub trait Kept: Debug + Send + Sync {
    /// The job ends without proof that the engine is done with it.
    fn condemn(&self);

    /// Where the engine begins, if the job has no slots.
    fn start(&self) -> Start;
}

impl Kept for Allocation {
    fn condemn(&self) {
        self.condemn();
    }

    fn start(&self) -> Start {
        unreachable!("memory is used through slots")
    }
}

#[derive(Debug)]
pub struct Job {
    /// The memory of a transfer, or a program; nothing if the slots of the job keep its memory.
    pub kept: Option<Arc<dyn Kept>>,
    /// Number of the program, or 0.
    pub program: u64,
    /// Slots that it has: none if it is a program.
    pub slots: u32,
    /// Position of the first of them.
    pub slot: u64,
    pub bytes: u64,
}

/// A job that is not over, or none. Each has a cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Place {
    pub kept: Option<Arc<dyn Kept>>,
    pub slot: u64,
    pub bytes: u64,
    /// How many descriptors the engine has completed since it was started when it has completed this job: [`NEVER`] as long as it was
    /// not given all, and of no job.
    pub end: u64,
    pub slots: u32,
    /// Descriptors that the engine has yet to be given.
    pub left: u32,
}

#[derive(Debug)]
pub struct Jobs {
    places: Box<[Place; MAX_JOBS]>,
    /// Numbers of the oldest job and of the one to come, and which programs are in flight.
    running: Arc<Running>,
    /// How many jobs wait for the engine, in part or as a whole.
    waiting: u64,
}

impl Jobs {
    /// None yet.
    pub fn new(running: Arc<Running>) -> Self {
        Self { places: Box::new([const { EMPTY }; MAX_JOBS]), running, waiting: 0 }
    }

    /// Number of the oldest job that is not done.
    #[inline(always)]
    pub fn done(&self) -> u64 {
        self.running.done()
    }

    /// Number of the next job.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.running.next()
    }

    pub fn len(&self) -> usize {
        (self.next() - self.done()) as usize
    }

    pub fn is_full(&self) -> bool {
        self.len() == MAX_JOBS
    }

    /// Whether a job waits for the engine, in part or as a whole.
    #[inline(always)]
    pub fn wait(&self) -> bool {
        self.waiting > 0
    }

    /// How many jobs wait for the engine, in part or as a whole.
    pub fn waiting_count(&self) -> usize {
        self.waiting as usize
    }

    /// The first job that waits for the engine.
    #[inline(always)]
    pub fn waiting(&self) -> Option<&Place> {
        self.wait().then(|| &self.places[self.place(self.next() - self.waiting)])
    }

    #[inline(always)]
    fn place(&self, number: u64) -> usize {
        number as usize % MAX_JOBS
    }

    /// Notes that the engine was given `count` more descriptors of the first job that waits, the last of which will be the
    /// `end`-th that it completes.
    #[inline(always)]
    pub fn give(&mut self, count: u32, end: u64) {
        let at = self.place(self.next() - self.waiting);
        let job = &mut self.places[at];
        job.left -= count;
        if job.left == 0 {
            job.end = end;
            self.waiting -= 1;
        }
    }

    /// The oldest job.
    pub fn front(&self) -> Option<&Place> {
        (self.done() != self.next()).then(|| &self.places[self.place(self.done())])
    }

    /// Adds a job; there is room. The engine has yet to be given all of its `descriptors`.
    #[inline(always)]
    pub fn push(&mut self, number: u64, job: Job, descriptors: u32) {
        self.put(number, job, NEVER, descriptors);
        self.waiting += 1;
    }

    /// Adds a job that the engine is given at once, as no other waits; there is room.
    #[inline(always)]
    pub fn push_given(&mut self, number: u64, job: Job, end: u64) {
        self.put(number, job, end, 0);
    }

    #[inline(always)]
    fn put(&mut self, number: u64, job: Job, end: u64, left: u32) {
        let Job { kept, program, slots, slot, bytes } = job;
        let at = self.place(number);
        let place = &mut self.places[at];
        debug_assert!(place.kept.is_none() && place.end == NEVER, "jobs are counted before they are added");
        // There is nothing to drop.
        std::mem::forget(std::mem::replace(place, Place { kept, slot, bytes, end, slots, left }));
        self.running.begin(number, program);
    }

    /// Ends the oldest job if it is finished with `completed` descriptors. It is to be [cleared](Self::clear) next.
    #[inline(always)]
    pub fn finish(&mut self, completed: u64) -> Option<Over> {
        let number = self.done();
        let place = &self.places[self.place(number)];
        if place.end > completed {
            return None;
        }
        self.running.end_before(number + 1);
        Some(place.over(number))
    }

    /// Ends the oldest job, finished or not. It is to be [cleared](Self::clear) next.
    pub fn end(&mut self) -> Option<(Over, Option<&dyn Kept>)> {
        let number = self.done();
        if number == self.next() {
            self.waiting = 0;
            return None;
        }
        self.running.end_before(number + 1);
        let place = &self.places[self.place(number)];
        Some((place.over(number), place.kept.as_deref()))
    }

    /// Lets go of what a job kept that has ended.
    #[inline(always)]
    pub fn clear(&mut self, over: Over) {
        let at = self.place(over.number);
        let place = &mut self.places[at];
        place.end = NEVER;
        place.kept = None;
    }
}

/// What is left of a job that is over.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    pub number: u64,
    /// Whether it kept something itself.
    pub kept: bool,
    pub slots: u32,
    pub bytes: u64,
}

impl Place {
    /// Where the engine begins with it.
    #[inline(always)]
    pub fn start(&self, slots: &Slots) -> Start {
        match &self.kept {
            Some(kept) if self.slots == 0 => kept.start(),
            _ => slots.start(self.slot),
        }
    }

    #[inline(always)]
    fn over(&self, number: u64) -> Over {
        Over { number, kept: self.kept.is_some(), slots: self.slots, bytes: self.bytes }
    }
}

const EMPTY: Place = Place { kept: None, slot: 0, bytes: 0, end: NEVER, slots: 0, left: 0 };

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
            let mut jobs = Jobs::new(Arc::new(Running::new(0)));
            let (mut model, mut pushed, mut given) = (VecDeque::new(), 0, 0);
            for step in steps {
                match step {
                    Step::Push(descriptors) if !jobs.is_full() => {
                        let (slots, bytes) = (descriptors, descriptors.into());
                        jobs.push(jobs.next(), Job { kept: None, program: 0, slots, slot: pushed, bytes }, descriptors);
                        model.push_back((pushed, descriptors, descriptors, NEVER));
                        pushed += 1;
                    }
                    Step::Give(most) => {
                        let first = model.iter_mut().find(|job| job.2 > 0);
                        let seen = jobs.waiting().map(|job| (job.slot, job.left));
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
                        let (_, expected, _, end) = model.pop_front().unwrap();
                        prop_assert!(jobs.finish(end - 1).is_none());
                        let over = jobs.finish(end).unwrap();
                        prop_assert_eq!((over.slots, over.bytes), (expected, expected.into()));
                        jobs.clear(over);
                    }
                    Step::Abandon => {
                        let mut ended = 0;
                        while let Some((over, _)) = jobs.end() {
                            jobs.clear(over);
                            ended += 1;
                        }
                        prop_assert_eq!(ended, model.len());
                        model.clear();
                    }
                    Step::Push(_) | Step::Pop => {}
                }
                prop_assert_eq!((jobs.len(), jobs.is_full()), (model.len(), model.len() == MAX_JOBS));
                prop_assert_eq!((jobs.next(), jobs.done()), (pushed, pushed - model.len() as u64));
                prop_assert!(model.front().is_some_and(|job| job.2 == 0) || jobs.finish(NEVER - 1).is_none());
                prop_assert_eq!(jobs.wait(), model.iter().any(|job| job.2 > 0));
                let front = jobs.front().map(|job| (job.slot, job.left, job.end));
                prop_assert_eq!(front, model.front().map(|job| (job.0, job.2, job.3)));
            }
        }
    }
}
