//! Buffers in DMA memory for the scalars of a card's jobs, with the programs that were prepared for them.

use crate::scalars::Scalars;
use std::ops::Range;
use xdma::card::Card;
use xdma::msm::{DataError, Job, Msm, Points, PrepareError, ScalarForm};
use zeroize::Zeroize;

/// Maximum number of idle buffers that are kept for later parts.
const MAX_IDLE: usize = 8;
/// Maximum number of prepared jobs that an idle buffer keeps.
const MAX_JOBS: usize = 8;

/// The inputs of a job: ranges of points and of the scalars in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobInputs {
    /// The bases, and whether the points are their tags.
    pub points: (u64, bool),
    pub point_range: Range<usize>,
    pub scalar_range: Range<usize>,
}

/// The positions in a buffer at which the scalars of a job may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Any index. After an odd index, a beat of two scalars can lie in two ranges of memory that are not contiguous for the card.
    AnyStart,
    /// Only an even index.
    EvenStart,
}

/// Scalars in DMA memory.
#[derive(Debug)]
pub(crate) struct ScalarBuffer {
    memory: xdma::msm::Scalars,
    /// The identity and the range of the scalars at the start of the buffer.
    contents: Option<(u64, Range<usize>)>,
    jobs: Vec<(JobInputs, Job)>,
}

impl ScalarBuffer {
    /// Returns the index of these scalars in the buffer, or `None` if the buffer does not contain them.
    pub fn find(&self, scalars: &Scalars, range: &Range<usize>, reuse: Reuse) -> Option<usize> {
        let (id, held) = self.contents.as_ref()?;
        let has = *id == scalars.id && held.start <= range.start && range.end <= held.end;
        let offset = range.start.checked_sub(held.start).filter(|_| has)?;
        (reuse == Reuse::AnyStart || offset.is_multiple_of(2)).then_some(offset)
    }

    /// Returns the job with these inputs. Prepares the job if the buffer does not have it yet.
    pub fn job(&mut self, msm: &Msm, points: &Points, inputs: JobInputs) -> Result<&Job, PrepareError> {
        if let Some(at) = self.jobs.iter().position(|(prepared, _)| *prepared == inputs) {
            return Ok(&self.jobs[at].1);
        }
        let (point_range, scalar_range) = (inputs.point_range.clone(), inputs.scalar_range.clone());
        let job = msm.prepare_range(points, point_range, &self.memory, scalar_range)?;
        self.jobs.push((inputs, job));
        Ok(&self.jobs[self.jobs.len() - 1].1)
    }

    /// Drops the oldest jobs beyond the maximum.
    fn trim(&mut self) {
        self.jobs.drain(..self.jobs.len().saturating_sub(MAX_JOBS));
    }

    fn fits(&self, count: usize, form: ScalarForm) -> bool {
        self.memory.len() >= count && self.memory.form() == form
    }
}

/// Erases the scalars, because they can be secret.
impl Drop for ScalarBuffer {
    fn drop(&mut self) {
        self.jobs.clear();
        // This fails if the card may still read the memory after a failed job. The memory then keeps its contents, and is never
        // reused.
        let _ = self.memory.fill(|bytes| bytes.zeroize());
    }
}

/// The idle buffers. The most recently used one is the last.
#[derive(Debug)]
pub(crate) struct ScalarBufferPool {
    card: Card,
    idle: Vec<ScalarBuffer>,
}

impl ScalarBufferPool {
    pub fn new(card: Card) -> Self {
        Self { card, idle: vec![] }
    }

    /// Returns a buffer with these scalars, the index of the first of them, and the number of bytes that were copied. Prefers a
    /// buffer that already has a job with these `inputs`.
    pub fn acquire(
        &mut self,
        scalars: &Scalars,
        range: &Range<usize>,
        inputs: &JobInputs,
        reuse: Reuse,
    ) -> Result<(ScalarBuffer, usize, u64), DataError> {
        let found = self
            .idle
            .iter()
            .enumerate()
            .find_map(|(at, buffer)| Some((at, buffer.find(scalars, range, reuse)?)));
        if let Some((at, offset)) = found {
            return Ok((self.idle.remove(at), offset, 0));
        }
        let mut buffer = self.take(range.len(), scalars.form(), inputs)?;
        let bytes = buffer.memory.fill(|bytes| {
            let used = &mut bytes[..xdma::regs::msm::SCALAR_BYTES * range.len()];
            scalars.write(range, used);
            used.len() as u64
        })?;
        buffer.contents = Some((scalars.id, range.clone()));
        Ok((buffer, 0, bytes))
    }

    /// Takes the smallest buffer that is large enough, preferably one that has a prepared job with these inputs.
    fn take(
        &mut self,
        count: usize,
        form: ScalarForm,
        inputs: &JobInputs,
    ) -> Result<ScalarBuffer, DataError> {
        let fitting = self.idle.iter().enumerate().filter(|(_, buffer)| buffer.fits(count, form));
        let best = fitting.min_by_key(|(_, buffer)| {
            let prepared = buffer.jobs.iter().any(|(prepared, _)| prepared == inputs);
            (!prepared, buffer.memory.len())
        });
        match best.map(|(at, _)| at) {
            Some(at) => Ok(self.idle.remove(at)),
            None => {
                let memory = xdma::msm::Scalars::allocate(&self.card, count, form)?;
                Ok(ScalarBuffer { memory, contents: None, jobs: vec![] })
            }
        }
    }

    /// Returns a buffer to the pool. All of its jobs must have ended.
    pub fn release(&mut self, mut buffer: ScalarBuffer) {
        buffer.trim();
        self.idle.push(buffer);
        if self.idle.len() > MAX_IDLE {
            self.idle.remove(0);
        }
    }

    /// Drops the jobs over these bases, which unpins their points, and the buffers without jobs.
    pub fn unload(&mut self, bases: u64) {
        for buffer in &mut self.idle {
            buffer.jobs.retain(|(inputs, _)| inputs.points.0 != bases);
        }
        self.idle.retain(|buffer| !buffer.jobs.is_empty());
    }
}
