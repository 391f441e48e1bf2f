//! Buffers in DMA memory for the scalars of MSMs, with the jobs that were prepared for them.

use crate::registry::DmaPoints;
use ark_ff::BigInt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use xdma::card::Card;
use xdma::msm::{DataError, Job, Msm, PrepareError, ScalarForm, Scalars};
use xdma::regs::msm::SCALAR_BYTES;
use zeroize::Zeroize;

/// Maximum number of idle buffers that are kept for later MSMs.
const MAX_IDLE: usize = 8;
/// Maximum number of prepared jobs that an idle buffer keeps.
const MAX_JOBS: usize = 8;

/// The inputs of a job: a range of points, and a range of the scalars in a buffer.
#[derive(Clone, Debug)]
pub(crate) struct JobInputs {
    pub points: Arc<DmaPoints>,
    pub point_range: Range<usize>,
    pub scalar_range: Range<usize>,
}

impl JobInputs {
    fn is_same_job(&self, other: &Self) -> bool {
        self.points.id == other.points.id
            && self.point_range == other.point_range
            && self.scalar_range == other.scalar_range
    }
}

/// Scalars in DMA memory. A buffer has one user at a time.
#[derive(Debug)]
pub(crate) struct ScalarBuffer {
    scalars: Scalars,
    jobs: Vec<(JobInputs, Job)>,
}

impl ScalarBuffer {
    /// Copies scalars to the start of the buffer. An MSM copies nothing else.
    pub fn write(&mut self, scalars: &[BigInt<4>]) -> Result<(), DataError> {
        self.scalars.fill(|bytes| {
            for (scalar, bytes) in scalars.iter().zip(bytes.as_chunks_mut::<SCALAR_BYTES>().0) {
                for (limb, bytes) in scalar.0.iter().zip(bytes.as_chunks_mut::<8>().0) {
                    *bytes = limb.to_le_bytes();
                }
            }
        })
    }

    /// Returns the job with these inputs. Prepares it if the buffer does not have it yet.
    pub fn job(&mut self, msm: &Msm, inputs: &JobInputs) -> Result<&Job, PrepareError> {
        if let Some(at) = self.jobs.iter().position(|(prepared, _)| prepared.is_same_job(inputs)) {
            return Ok(&self.jobs[at].1);
        }
        let (points, scalars) = (inputs.point_range.clone(), inputs.scalar_range.clone());
        let job = msm.prepare_range(&inputs.points.points, points, &self.scalars, scalars)?;
        self.jobs.push((inputs.clone(), job));
        Ok(&self.jobs[self.jobs.len() - 1].1)
    }

    fn has_job(&self, inputs: &JobInputs) -> bool {
        self.jobs.iter().any(|(prepared, _)| prepared.is_same_job(inputs))
    }

    /// Drops the jobs whose points are no longer registered, which unpins the points, and the oldest of the others beyond the
    /// maximum. Returns whether any are left.
    fn trim(&mut self) -> bool {
        self.jobs.retain(|(inputs, _)| inputs.points.is_in_use());
        self.jobs.drain(..self.jobs.len().saturating_sub(MAX_JOBS));
        !self.jobs.is_empty()
    }
}

/// Scalars can be secret.
impl Drop for ScalarBuffer {
    fn drop(&mut self) {
        self.jobs.clear();
        // After a failed job, the card may still read the memory. It then keeps its contents, and is never used again.
        let _ = self.scalars.fill(|bytes| bytes.zeroize());
    }
}

/// The idle buffers. The most recently used one is the last.
#[derive(Debug)]
pub(crate) struct ScalarBufferPool {
    card: Card,
    idle: Mutex<Vec<ScalarBuffer>>,
}

impl ScalarBufferPool {
    pub fn new(card: Card) -> Self {
        Self { card, idle: Mutex::default() }
    }

    /// Returns a buffer for `count` scalars, preferably one that has a prepared job with these inputs.
    pub fn acquire(&self, count: usize, inputs: &JobInputs) -> Result<ScalarBuffer, DataError> {
        let remove = |idle: &mut Vec<ScalarBuffer>| {
            let prepared =
                idle.iter().position(|buffer| buffer.has_job(inputs) && buffer.scalars.len() >= count);
            let large_enough = || {
                let buffers = idle.iter().enumerate().filter(|(_, buffer)| buffer.scalars.len() >= count);
                buffers.min_by_key(|(_, buffer)| buffer.scalars.len()).map(|(at, _)| at)
            };
            prepared.or_else(large_enough).map(|at| idle.remove(at))
        };
        match self.with_idle(remove) {
            Some(buffer) => Ok(buffer),
            None => {
                let scalars = Scalars::allocate(&self.card, count, ScalarForm::Canonical)?;
                Ok(ScalarBuffer { scalars, jobs: vec![] })
            }
        }
    }

    /// Returns a buffer to the pool. All of its jobs must have ended.
    pub fn release(&self, buffer: ScalarBuffer) {
        let excess = self.with_idle(|idle| {
            idle.push(buffer);
            let mut excess: Vec<_> = idle.extract_if(.., |buffer| !buffer.trim()).collect();
            excess.extend((idle.len() > MAX_IDLE).then(|| idle.remove(0)));
            excess
        });
        // Frees memory, so not while the lock is held.
        drop(excess);
    }

    /// Drops the jobs whose points are no longer registered, and the buffers without jobs.
    pub fn trim(&self) {
        let unused: Vec<_> = self.with_idle(|idle| idle.extract_if(.., |buffer| !buffer.trim()).collect());
        drop(unused);
    }

    fn with_idle<R>(&self, f: impl FnOnce(&mut Vec<ScalarBuffer>) -> R) -> R {
        f(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
