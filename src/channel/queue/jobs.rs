//! Jobs in flight and queued, in a ring indexed by ticket number.

use crate::channel::slots::Slots;
use crate::channel::start::Start;
use crate::memory::{Allocation, MAX_JOBS, Running};
use std::fmt::Debug;
use std::sync::Arc;

/// A descriptor count that is never reached.
const NEVER: u64 = u64::MAX;

/// The memory that a job pins until the engine is done with it. A trait object, so that jobs with a single allocation and runs
/// of a program have the same type.
pub trait Pinned: Debug + Send + Sync {
    /// Called when the job ends without proof that the engine is done with the memory.
    fn quarantine(&self);

    /// Returns the device address of a program's list; `None` for the memory of a transfer.
    fn list(&self) -> Option<u64>;
}

impl Pinned for Allocation {
    fn quarantine(&self) {
        self.quarantine();
    }

    fn list(&self) -> Option<u64> {
        None
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
    /// Where the engine starts with it.
    pub start: Start,
    pub bytes: u64,
}

/// A job that has not ended, or an empty entry. Each entry is one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Entry {
    pub pin: Option<Arc<dyn Pinned>>,
    /// Device address of its first descriptor, if the job has waited.
    first: u64,
    pub bytes: u64,
    /// Number of descriptors of all jobs up to and including this one: all of its descriptors are posted once so many have been
    /// posted, and it is finished once so many have completed. [`NEVER`] in an empty entry, and if posting it failed.
    pub end: u64,
    pub slots: u32,
    /// Number of adjacent descriptors after the first, if the job has waited.
    adjacent: u32,
}

#[derive(Debug)]
pub struct Jobs {
    entries: Box<[Entry; MAX_JOBS]>,
    /// Numbers of the oldest and the next job, and the programs in flight.
    running: Arc<Running>,
    /// Number of descriptors of these jobs that have not been posted.
    unposted: u64,
}

impl Jobs {
    /// Creates an empty ring.
    pub fn new(running: Arc<Running>) -> Self {
        Self { entries: Box::new([const { EMPTY }; MAX_JOBS]), running, unposted: 0 }
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
        self.unposted > 0
    }

    /// Returns the number of the first job with descriptors that have not been posted if `posted` have been posted so far,
    /// or that of the next job.
    pub fn first_waiting(&self, posted: u64) -> u64 {
        let (mut first, mut len) = (self.done(), self.len() as u64);
        while len > 0 {
            let middle = first + len / 2;
            match self.entries[self.index(middle)].end <= posted {
                true => (first, len) = (middle + 1, len - len / 2 - 1),
                false => len /= 2,
            }
        }
        first
    }

    /// Returns the job with this number, which is in the ring.
    #[inline(always)]
    pub fn get(&self, number: u64) -> &Entry {
        &self.entries[self.index(number)]
    }

    #[inline(always)]
    fn index(&self, number: u64) -> usize {
        number as usize % MAX_JOBS
    }

    /// Records that `count` more descriptors of the first waiting job are posted.
    #[inline(always)]
    pub fn post(&mut self, count: u64) {
        self.unposted -= count;
    }

    /// Ensures that job `number` does not finish: posting it failed, but the engine may have received it.
    pub fn hold(&mut self, number: u64) {
        let at = self.index(number);
        self.entries[at].end = NEVER;
    }

    /// Returns the oldest job.
    pub fn front(&self) -> Option<&Entry> {
        (self.done() != self.next()).then(|| &self.entries[self.index(self.done())])
    }

    /// Adds a job, for which the ring has room. It waits for the engine. `posted` descriptors have been posted so far.
    #[inline(always)]
    pub fn push(&mut self, number: u64, job: Job, descriptors: u64, posted: u64) {
        self.unposted += descriptors;
        self.insert(number, job, posted + self.unposted, true);
    }

    /// Adds a job that is about to be posted as a whole, because no other job waits. The ring has room for it.
    #[inline(always)]
    pub fn push_posted(&mut self, number: u64, job: Job, end: u64) {
        self.insert(number, job, end, false);
    }

    #[inline(always)]
    fn insert(&mut self, number: u64, job: Job, end: u64, waits: bool) {
        let Job { pin, program, slots, start, bytes } = job;
        let at = self.index(number);
        let entry = &mut self.entries[at];
        debug_assert!(entry.pin.is_none() && entry.end == NEVER, "the entry is empty");
        // There is no old value to drop.
        std::mem::forget(std::mem::replace(&mut entry.pin, pin));
        (entry.bytes, entry.end, entry.slots) = (bytes, end, slots);
        if waits {
            (entry.first, entry.adjacent) = (start.first, start.adjacent.into());
        }
        self.running.begin(number, program);
    }

    /// Returns whether job `number`, the oldest or the next, is finished at a count of `completed`.
    #[inline(always)]
    pub fn is_finished(&self, number: u64, completed: u64) -> bool {
        self.get(number).end <= completed
    }

    /// Ends job `number`, the oldest.
    #[inline(always)]
    pub fn end(&mut self, number: u64) -> Ended<'_> {
        self.running.end_before(number + 1);
        let at = self.index(number);
        self.entries[at].end = NEVER;
        Ended(&mut self.entries[at])
    }

    /// Ends the oldest job, finished or not.
    pub fn end_any(&mut self) -> Option<Ended<'_>> {
        let number = self.done();
        if number == self.next() {
            self.unposted = 0;
            return None;
        }
        Some(self.end(number))
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
    /// Returns the device address of the list of this job, which waits. A program starts with the first descriptor of its own.
    #[inline(always)]
    pub fn list(&self, slots: &Slots) -> u64 {
        if self.slots == 0 { self.first } else { slots.base() }
    }

    /// Returns where the engine starts with this job, which waits.
    #[inline(always)]
    pub fn start(&self, slots: &Slots) -> Start {
        Start { list: self.list(slots), first: self.first, adjacent: self.adjacent as u8 }
    }

    /// Returns how many descriptors of this job, the first that waits, have not been posted. `posted` descriptors have been
    /// posted so far.
    #[inline(always)]
    pub fn remaining(&self, posted: u64) -> u64 {
        self.end - posted
    }
}

const EMPTY: Entry = Entry { pin: None, first: 0, bytes: 0, end: NEVER, slots: 0, adjacent: 0 };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Post(u64),
        Pop,
        Abandon,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (1u64..2000).prop_map(Step::Push),
            8 => (0u64..1024).prop_map(Step::Post),
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
            // The model's jobs: number, descriptors, and those that have not been posted.
            let (mut model, mut pushed, mut posted, mut completed) = (VecDeque::new(), 0, 0, 0);
            for step in steps {
                match step {
                    Step::Push(descriptors) if !jobs.is_full() => {
                        let start = Start { list: 0, first: pushed, adjacent: 0 };
                        let (slots, bytes) = (descriptors as u32, descriptors);
                        let job = Job { pin: None, program: 0, slots, start, bytes };
                        jobs.push(jobs.next(), job, descriptors, posted);
                        model.push_back((pushed, descriptors, descriptors));
                        pushed += 1;
                    }
                    Step::Post(most) => {
                        let first = model.iter_mut().find(|job| job.2 > 0);
                        let number = jobs.first_waiting(posted);
                        let seen = (number < jobs.next()).then(|| jobs.get(number));
                        let seen = seen.map(|job| (number, job.first, job.remaining(posted)));
                        prop_assert_eq!(seen, first.as_ref().map(|job| (job.0, job.0, job.2)));
                        if let Some(job) = first {
                            let count = most.min(job.2);
                            posted += count;
                            job.2 -= count;
                            jobs.post(count);
                        }
                    }
                    // The engine completes only posted descriptors.
                    Step::Pop if model.front().is_some_and(|job| job.2 == 0) => {
                        let (_, expected, _) = model.pop_front().unwrap();
                        let end = completed + expected;
                        prop_assert!(!jobs.is_finished(jobs.done(), end - 1) && jobs.is_finished(jobs.done(), end));
                        let last = jobs.end(jobs.done());
                        prop_assert_eq!((last.slots(), last.bytes()), (expected as u32, expected));
                        prop_assert!(!last.unpin());
                        completed = end;
                    }
                    Step::Abandon => {
                        let mut ended = 0;
                        while let Some(last) = jobs.end_any() {
                            last.unpin();
                            ended += 1;
                        }
                        prop_assert_eq!(ended, model.len());
                        model.clear();
                        completed = posted;
                    }
                    Step::Push(_) | Step::Pop => {}
                }
                prop_assert_eq!((jobs.len(), jobs.is_full()), (model.len(), model.len() == MAX_JOBS));
                prop_assert_eq!((jobs.next(), jobs.done()), (pushed, pushed - model.len() as u64));
                // A job that waits is not finished even if everything posted is completed.
                prop_assert!(model.front().is_some_and(|job| job.2 == 0) || !jobs.is_finished(jobs.done(), posted));
                prop_assert_eq!(jobs.has_waiting(), model.iter().any(|job| job.2 > 0));
                let front = jobs.front().map(|job| (job.first, job.end));
                prop_assert_eq!(front, model.front().map(|job| (job.0, completed + job.1)));
            }
        }
    }
}
