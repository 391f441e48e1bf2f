//! Jobs in flight and queued: a ring in which a job's place is the number of its ticket.

use super::program::Inner;
use std::sync::Arc;

/// Jobs that may be in flight or queued; a power of two.
pub(super) const MAX_JOBS: usize = 256;
/// No count of completed descriptors.
const NEVER: u64 = u64::MAX;

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
    pub fn new() -> Self {
        Self { places: Box::new([const { EMPTY }; MAX_JOBS]), done: 0, given: 0, next: 0 }
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
