//! Jobs in flight and queued: a ring in which a job's place is the number of its ticket.

use super::program::Inner;
use std::sync::Arc;

/// Jobs that may be in flight or queued; a power of two.
pub(super) const MAX_JOBS: usize = 256;

#[derive(Debug)]
pub(super) enum Work {
    /// Descriptors in the ring from this device address on.
    Ring {
        start: u64,
    },
    Program(Arc<Inner>),
}

#[derive(Debug)]
pub(super) struct Job {
    pub work: Work,
    pub descriptors: u32,
    /// Descriptors given to the engine so far.
    pub given: u32,
    pub bytes: u64,
    /// With credits: how many are issued when all of this job's are.
    pub end: u64,
}

impl Job {
    pub fn new(work: Work, descriptors: u32, bytes: u64) -> Self {
        Self { work, descriptors, given: 0, bytes, end: 0 }
    }

    /// Descriptors that the engine has yet to be given.
    #[inline]
    pub fn left(&self) -> u32 {
        self.descriptors - self.given
    }
}

#[derive(Debug)]
pub(super) struct Jobs {
    places: Box<[Option<Job>; MAX_JOBS]>,
    /// Numbers of the oldest job and of the one to come.
    done: u64,
    next: u64,
}

impl Jobs {
    pub fn new() -> Self {
        Self { places: Box::new([const { None }; MAX_JOBS]), done: 0, next: 0 }
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

    #[inline]
    pub fn get(&self, number: u64) -> Option<&Job> {
        self.places[number as usize % MAX_JOBS].as_ref()
    }

    /// Notes that the engine was given `count` more descriptors of a job, the last with credit number `end`.
    #[inline]
    pub fn give(&mut self, number: u64, count: u32, end: u64) {
        if let Some(job) = &mut self.places[number as usize % MAX_JOBS] {
            job.given += count;
            job.end = end;
        }
    }

    #[inline]
    pub fn front(&self) -> Option<&Job> {
        self.get(self.done)
    }

    /// Whether the newest job waits for the engine, in part or as a whole.
    #[inline]
    pub fn wait(&self) -> bool {
        self.done != self.next && self.get(self.next - 1).is_some_and(|job| job.left() > 0)
    }

    /// Adds a job; there is room.
    #[inline]
    pub fn push(&mut self, job: Job) {
        let place = &mut self.places[self.next as usize % MAX_JOBS];
        debug_assert!(place.is_none(), "jobs are counted before they are pushed");
        // There is nothing to drop.
        std::mem::forget(place.replace(job));
        self.next += 1;
    }

    /// Takes the oldest job out.
    #[inline]
    pub fn pop(&mut self) -> Option<Job> {
        let job = self.places[self.done as usize % MAX_JOBS].take()?;
        self.done += 1;
        Some(job)
    }
}
