//! Jobs in flight and queued, in a ring indexed by ticket number.

use crate::channel::slots::Slots;
use crate::channel::start::Start;
use crate::memory::{Allocation, MAX_JOBS, Running};
use std::fmt::Debug;
use std::sync::Arc;

/// A descriptor count that is never reached.
pub const NEVER: u64 = u64::MAX;

/// The memory that a job pins until the engine is done with it. A trait object, so that jobs with a single allocation and runs
/// of a program have the same type.
pub trait Pinned: Debug + Send + Sync {
    /// Called when the job ends without proof that the engine is done with the memory.
    fn quarantine(&self);

    /// Returns where the engine starts, if the job has no slots.
    fn start(&self) -> Start;
}

impl Pinned for Allocation {
    fn quarantine(&self) {
        self.quarantine();
    }

    fn start(&self) -> Start {
        unreachable!("memory is used through slots")
    }
}

#[derive(Debug)]
pub struct Job {
    /// The memory of a transfer, or a program. `None` if the job's slots pin its memory.
    pub pin: Option<Arc<dyn Pinned>>,
    /// Number of the program, or 0.
    pub program: u64,
    /// Number of slots that it uses; 0 for a program.
    pub slots: u32,
    /// Position of its first slot.
    pub slot: u64,
    pub bytes: u64,
}

/// A job that has not ended, or an empty entry. Each entry is one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Entry {
    pub pin: Option<Arc<dyn Pinned>>,
    pub slot: u64,
    pub bytes: u64,
    /// The engine's completion count (since it was started) at which this job is finished. [`NEVER`] while some of its
    /// descriptors have not been posted, and in an empty entry.
    pub end: u64,
    pub slots: u32,
    /// Number of descriptors that have not been posted to the engine.
    pub remaining: u32,
}

#[derive(Debug)]
pub struct Jobs {
    entries: Box<[Entry; MAX_JOBS]>,
    /// Numbers of the oldest and the next job, and the programs in flight.
    running: Arc<Running>,
    /// Number of jobs with descriptors that have not been posted.
    waiting: u64,
}

impl Jobs {
    /// Creates an empty ring.
    pub fn new(running: Arc<Running>) -> Self {
        Self { entries: Box::new([const { EMPTY }; MAX_JOBS]), running, waiting: 0 }
    }

    /// Returns the number of the oldest unfinished job.
    #[inline(always)]
    pub fn done(&self) -> u64 {
        self.running.done()
    }

    /// Returns the number that the next submitted job gets.
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

    /// Returns whether any job has descriptors that have not been posted.
    #[inline(always)]
    pub fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Returns the number of jobs with descriptors that have not been posted.
    pub fn waiting_count(&self) -> usize {
        self.waiting as usize
    }

    /// Returns the first job with descriptors that have not been posted.
    #[inline(always)]
    pub fn waiting(&self) -> Option<&Entry> {
        self.has_waiting().then(|| &self.entries[self.index(self.next() - self.waiting)])
    }

    #[inline(always)]
    fn index(&self, number: u64) -> usize {
        number as usize % MAX_JOBS
    }

    /// Records that `count` more descriptors of the first waiting job were posted. The engine's completion count is `end` once
    /// it has completed them.
    #[inline(always)]
    pub fn post(&mut self, count: u32, end: u64) {
        let at = self.index(self.next() - self.waiting);
        let job = &mut self.entries[at];
        job.remaining -= count;
        if job.remaining == 0 {
            job.end = end;
            self.waiting -= 1;
        }
    }

    /// Returns the oldest job.
    pub fn front(&self) -> Option<&Entry> {
        (self.done() != self.next()).then(|| &self.entries[self.index(self.done())])
    }

    /// Adds a job, for which the ring has room. None of its `descriptors` have been posted.
    #[inline(always)]
    pub fn push(&mut self, number: u64, job: Job, descriptors: u32) {
        self.insert(number, job, NEVER, descriptors);
        self.waiting += 1;
    }

    /// Adds a job that is about to be posted as a whole, because no other job waits. The ring has room for it.
    #[inline(always)]
    pub fn push_posted(&mut self, number: u64, job: Job, end: u64) {
        self.insert(number, job, end, 0);
    }

    #[inline(always)]
    fn insert(&mut self, number: u64, job: Job, end: u64, remaining: u32) {
        let Job { pin, program, slots, slot, bytes } = job;
        let at = self.index(number);
        let entry = &mut self.entries[at];
        debug_assert!(entry.pin.is_none() && entry.end == NEVER, "the entry is empty");
        // The old entry is empty and needs no drop.
        std::mem::forget(std::mem::replace(entry, Entry { pin, slot, bytes, end, slots, remaining }));
        self.running.begin(number, program);
    }

    /// Ends job `number`, the oldest, if it is finished at a count of `completed`.
    #[inline(always)]
    pub fn finish(&mut self, number: u64, completed: u64) -> Option<Ended<'_>> {
        let at = self.index(number);
        let entry = &mut self.entries[at];
        if entry.end > completed {
            return None;
        }
        self.running.end_before(number + 1);
        Some(entry.ended())
    }

    /// Ends the oldest job, whether or not it is finished.
    pub fn end(&mut self) -> Option<Ended<'_>> {
        let number = self.done();
        if number == self.next() {
            self.waiting = 0;
            return None;
        }
        self.running.end_before(number + 1);
        let at = self.index(number);
        Some(self.entries[at].ended())
    }
}

/// A job that has ended, and whose entry still pins its memory.
#[must_use]
#[derive(Debug)]
pub struct Ended<'a>(&'a mut Entry);

impl Ended<'_> {
    #[inline(always)]
    pub fn slots(&self) -> u32 {
        self.0.slots
    }

    #[inline(always)]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Returns the memory that the job pins itself.
    pub fn pin(&self) -> Option<&dyn Pinned> {
        self.0.pin.as_deref()
    }

    /// Releases the memory that the job pins itself. Returns false if there is none, since its slots pin it.
    #[inline(always)]
    pub fn unpin(self) -> bool {
        let pins = self.0.pin.is_some();
        self.0.pin = None;
        pins
    }
}

impl Entry {
    /// Returns the list and the first descriptor of this job.
    #[inline(always)]
    pub fn start(&self, slots: &Slots) -> Start {
        match &self.pin {
            Some(pin) if self.slots == 0 => pin.start(),
            _ => slots.start(self.slot),
        }
    }

    #[inline(always)]
    fn ended(&mut self) -> Ended<'_> {
        self.end = NEVER;
        Ended(self)
    }
}

const EMPTY: Entry = Entry { pin: None, slot: 0, bytes: 0, end: NEVER, slots: 0, remaining: 0 };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32),
        Post(u32),
        Pop,
        Abandon,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1u32..2000).prop_map(Step::Push),
            8 => (0u32..1024).prop_map(Step::Post),
            6 => Just(Step::Pop),
            1 => Just(Step::Abandon),
        ];
        prop::collection::vec(step, 1..600)
    }

    proptest! {
        /// Compares against a queue of remaining descriptors per job: all descriptors of a job are posted before any of the
        /// next job, completion counts accumulate, and jobs leave in order.
        #[test]
        fn jobs_are_a_queue(steps in steps()) {
            let mut jobs = Jobs::new(Arc::new(Running::new(0)));
            let (mut model, mut pushed, mut posted) = (VecDeque::new(), 0, 0);
            for step in steps {
                match step {
                    Step::Push(descriptors) if !jobs.is_full() => {
                        let (slots, bytes) = (descriptors, descriptors.into());
                        jobs.push(jobs.next(), Job { pin: None, program: 0, slots, slot: pushed, bytes }, descriptors);
                        model.push_back((pushed, descriptors, descriptors, NEVER));
                        pushed += 1;
                    }
                    Step::Post(most) => {
                        let first = model.iter_mut().find(|job| job.2 > 0);
                        let seen = jobs.waiting().map(|job| (job.slot, job.remaining));
                        prop_assert_eq!(seen, first.as_ref().map(|job| (job.0, job.2)));
                        if let Some(job) = first {
                            let count = most.min(job.2);
                            posted += u64::from(count);
                            jobs.post(count, posted);
                            job.2 -= count;
                            job.3 = if job.2 == 0 { posted } else { NEVER };
                        }
                    }
                    // The engine completes only posted descriptors.
                    Step::Pop if model.front().is_some_and(|job| job.2 == 0) => {
                        let (_, expected, _, end) = model.pop_front().unwrap();
                        prop_assert!(jobs.finish(jobs.done(), end - 1).is_none());
                        let last = jobs.finish(jobs.done(), end).unwrap();
                        prop_assert_eq!((last.slots(), last.bytes()), (expected, expected.into()));
                        prop_assert!(!last.unpin());
                    }
                    Step::Abandon => {
                        let mut ended = 0;
                        while let Some(last) = jobs.end() {
                            last.unpin();
                            ended += 1;
                        }
                        prop_assert_eq!(ended, model.len());
                        model.clear();
                    }
                    Step::Push(_) | Step::Pop => {}
                }
                prop_assert_eq!((jobs.len(), jobs.is_full()), (model.len(), model.len() == MAX_JOBS));
                prop_assert_eq!((jobs.next(), jobs.done()), (pushed, pushed - model.len() as u64));
                prop_assert!(model.front().is_some_and(|job| job.2 == 0) || jobs.finish(jobs.done(), NEVER - 1).is_none());
                prop_assert_eq!(jobs.has_waiting(), model.iter().any(|job| job.2 > 0));
                let front = jobs.front().map(|job| (job.slot, job.remaining, job.end));
                prop_assert_eq!(front, model.front().map(|job| (job.0, job.2, job.3)));
            }
        }
    }
}
