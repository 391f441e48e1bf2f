//! One open card: its MSM client, its copies of points, and its buffers.

use crate::bases::BasesData;
use crate::error::{MemberError, PartError};
use crate::options::CardsOptions;
use crate::queues::Part;
use crate::scalar_buffers::{JobInputs, Reuse, ScalarBuffer, ScalarBufferPool};
use crate::scalars::Scalars;
use crate::sum::SumState;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{AffineRepr, PrimeGroup};
use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::Stats;
use xdma::msm::curve::arkworks::{points_to_bytes, result_to_projective};
use xdma::msm::{
    DataError, DesignError, Job, JobError, JobTicket, Msm, Points, PrepareError, TimeoutEstimator,
};
use xdma::regs::msm::RESULT_BYTES;

/// A design whose jobs have fewer pairs than this is not usable, because a sum would be split into too many jobs.
const MIN_JOB_PAIRS: u32 = 64;
/// Interval at which a wait checks whether its result is still needed.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Computer {
    msm: Msm,
    buffers: ScalarBufferPool,
    points: HashMap<u64, LoadedPoints>,
    timeouts: TimeoutEstimator,
}

/// A card's copy of registered points, and of their tags.
struct LoadedPoints {
    points: Points,
    tags: Option<Points>,
}

impl Computer {
    pub fn open(card: &Card, options: &CardsOptions) -> Result<Self, MemberError> {
        let msm = Msm::open(card, options.msm)?;
        let design = msm.design();
        if design.stub || design.max_pairs < MIN_JOB_PAIRS {
            return Err(MemberError::Unusable { stub: design.stub, max_pairs: design.max_pairs });
        }
        let buffers = ScalarBufferPool::new(card.clone());
        Ok(Self {
            msm,
            buffers,
            points: HashMap::new(),
            timeouts: TimeoutEstimator::new(options.timeout_margin),
        })
    }

    /// Returns the maximum number of pairs of a job.
    pub fn max_pairs(&self) -> usize {
        self.msm.design().max_pairs as usize
    }

    pub fn stats(&mut self) -> Stats {
        self.msm.channel().stats()
    }

    /// Copies points and their tags to DMA memory.
    pub fn load(&mut self, bases: &BasesData) -> Result<(), DataError> {
        // If the points no longer exist, their owner is about to free the cards' copies, so there is nothing to load.
        let Some(points) = bases.read(|points| self.copy(points)).transpose()? else { return Ok(()) };
        let tags = bases.tags.as_ref().map(|tags| self.copy(&tags.points)).transpose()?;
        self.points.insert(bases.id, LoadedPoints { points, tags });
        Ok(())
    }

    fn copy(&self, from: &[G1Affine]) -> Result<Points, DataError> {
        let mut points = Points::allocate(self.msm.card(), from.len())?;
        points.fill(|bytes| points_to_bytes(from, bytes))??;
        Ok(points)
    }

    pub fn has(&self, bases: u64) -> bool {
        self.points.contains_key(&bases)
    }

    pub fn unload(&mut self, bases: u64) {
        self.buffers.unload(bases);
        self.points.remove(&bases);
    }

    /// Recovers the card and its client. This also works after the card was gone or reset, and for an engine that hangs, if the
    /// card can be reset.
    pub fn restart(&mut self) -> Result<(), MemberError> {
        self.msm.card().recover()?;
        Ok(self.msm.recover()?)
    }

    /// Recovers the client after an error.
    pub fn recover(&mut self) -> Result<(), DesignError> {
        self.msm.recover()
    }

    /// Returns whether a job is on the card, for example one whose result is no longer needed.
    pub fn is_busy(&self) -> bool {
        self.msm.in_flight() > 0
    }

    /// Copies the scalars of a part to the card's memory, and prepares its job.
    pub fn prepare(&mut self, sum: &SumState, pairs: &Range<usize>) -> Result<Inputs, PartError> {
        let points = sum.first + pairs.start..sum.first + pairs.end;
        let (scalars, bases) = (sum.scalars_of(pairs), sum.bases.id);
        let loaded = self.points.get(&bases).ok_or(PartError::NoPoints)?;
        let mut inputs = Inputs::acquire(&mut self.buffers, sum, bases, points, scalars, Reuse::AnyStart)?;
        match inputs.job(&self.msm, &loaded.points, false).map(drop) {
            Err(PrepareError::Data(DataError::SplitBeat { .. })) => {
                let Inputs { points, scalars, buffer, .. } = inputs;
                self.buffers.release(buffer);
                Ok(Inputs::acquire(&mut self.buffers, sum, bases, points, scalars, Reuse::EvenStart)?)
            }
            prepared => Ok(prepared.map(|()| inputs)?),
        }
    }

    /// Returns the memory of inputs to the pool. The inputs must be unused, or their jobs must have ended.
    pub fn release(&mut self, inputs: Inputs) {
        self.buffers.release(inputs.buffer);
    }

    /// Computes a part of a sum, and checks the result if the points have tags. Calls `meanwhile` while the card computes.
    /// Gives up when `is_unwanted` returns true.
    pub fn compute(
        &mut self,
        part: &Part,
        mut inputs: Inputs,
        is_unwanted: &dyn Fn() -> bool,
        meanwhile: impl FnOnce(&mut Self, &Inputs),
    ) -> Result<(G1Projective, u64), PartError> {
        let running = self.start(&mut inputs, false)?;
        meanwhile(self, &inputs);
        let result = self.wait(&running, is_unwanted)?;
        let tag = match &part.sum.bases.tags {
            Some(_) => {
                let running = self.start(&mut inputs, true)?;
                Some(self.wait(&running, is_unwanted)?)
            }
            None => None,
        };
        // The buffer is released only after success. After a failure, the card may still read it, so it is dropped instead, and
        // `xdma` keeps its memory until the card has finished with it.
        let Inputs { points, scalars, buffer, bytes_copied, .. } = inputs;
        self.buffers.release(buffer);
        let point = result_to_projective(&result)?;
        if let (Some(tag), Some(tags)) = (tag, &part.sum.bases.tags) {
            let tag = result_to_projective(&tag)?;
            if !tags.verify(&point, &tag, points, part.sum.scalars.slice(&scalars)) {
                return Err(PartError::Wrong { expected: "the sum over the tags of the points" });
            }
        }
        Ok((point, bytes_copied))
    }

    /// Starts a job over the points, or over their tags. Only one job is in flight at a time. If data of a job is lost on its
    /// way to the card, the job does not finish, and times out. With a second job queued, the design would use data of the
    /// second in place of the lost data, and the results would be wrong.
    fn start(&mut self, inputs: &mut Inputs, is_tags: bool) -> Result<Running, PartError> {
        let loaded = self.points.get(&inputs.bases).ok_or(PartError::NoPoints)?;
        let points = if is_tags { loaded.tags.as_ref().ok_or(PartError::NoPoints)? } else { &loaded.points };
        let job = inputs.job(&self.msm, points, is_tags)?;
        let (pairs, begin) = (u64::from(job.pairs()), Instant::now());
        Ok(Running { ticket: self.msm.submit(job)?, pairs, begin })
    }

    fn wait(
        &mut self,
        running: &Running,
        is_unwanted: &dyn Fn() -> bool,
    ) -> Result<[u8; RESULT_BYTES], PartError> {
        let Running { ticket, pairs, begin } = *running;
        let timeout = self.timeouts.timeout(pairs);
        loop {
            let remaining = timeout.saturating_sub(begin.elapsed());
            match self.msm.wait(ticket, remaining.min(CHECK_INTERVAL)) {
                Ok(output) => {
                    self.timeouts.record(pairs, begin.elapsed());
                    return Ok(output.bytes);
                }
                Err(JobError::Deadline { .. }) if is_unwanted() => return Err(PartError::Unwanted),
                Err(JobError::Deadline { .. }) if remaining > CHECK_INTERVAL => {}
                Err(JobError::Deadline { label, pairs, state, channel, .. }) => {
                    // Reports the whole timeout. The last wait was only a part of it.
                    return Err(JobError::Deadline { label, pairs, waited: timeout, state, channel }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Computes a sum of two pairs whose result is known.
    pub fn test(&mut self) -> Result<(), PartError> {
        let points = self.copy(&[G1Affine::generator(); 2])?;
        let scalars = Scalars::from_fr([Fr::from(3), Fr::from(10)]);
        let mut memory = xdma::msm::Scalars::allocate(self.msm.card(), 2, scalars.form())?;
        memory.fill(|bytes| scalars.write(&(0..2), bytes))?;
        let job = self.msm.prepare(&points, &memory)?;
        let running = Running { ticket: self.msm.submit(&job)?, pairs: 2, begin: Instant::now() };
        let result = self.wait(&running, &|| false)?;
        match result_to_projective(&result)? == G1Projective::generator() * Fr::from(13) {
            true => Ok(()),
            false => Err(PartError::Wrong { expected: "the known result of the test sum" }),
        }
    }
}

/// The scalars of a part in the card's memory, with its prepared job.
pub(crate) struct Inputs {
    /// The identity of the points.
    pub bases: u64,
    points: Range<usize>,
    scalars: Range<usize>,
    buffer: ScalarBuffer,
    /// The index in the buffer of the part's first scalar.
    offset: usize,
    bytes_copied: u64,
}

impl Inputs {
    fn acquire(
        buffers: &mut ScalarBufferPool,
        sum: &SumState,
        bases: u64,
        points: Range<usize>,
        scalars: Range<usize>,
        reuse: Reuse,
    ) -> Result<Self, DataError> {
        let first_job = job_inputs(bases, false, &points, 0);
        let (buffer, offset, bytes_copied) = buffers.acquire(&sum.scalars, &scalars, &first_job, reuse)?;
        Ok(Self { bases, points, scalars, buffer, offset, bytes_copied })
    }

    /// Returns whether the buffer also has the scalars of another part.
    pub fn has_scalars(&self, sum: &SumState, pairs: &Range<usize>) -> bool {
        self.buffer.find(&sum.scalars, &sum.scalars_of(pairs), Reuse::AnyStart).is_some()
    }

    /// Returns the job over the points, or over their tags.
    fn job(&mut self, msm: &Msm, points: &Points, is_tags: bool) -> Result<&Job, PrepareError> {
        let inputs = job_inputs(self.bases, is_tags, &self.points, self.offset);
        self.buffer.job(msm, points, inputs)
    }
}

fn job_inputs(bases: u64, is_tags: bool, points: &Range<usize>, offset: usize) -> JobInputs {
    let scalar_range = offset..offset + points.len();
    JobInputs { points: (bases, is_tags), point_range: points.clone(), scalar_range }
}

/// A job on the card.
struct Running {
    ticket: JobTicket,
    pairs: u64,
    begin: Instant,
}
