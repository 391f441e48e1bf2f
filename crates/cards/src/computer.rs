//! One open card: its MSM client, its copies of points, and its buffers.

use crate::bases::BasesData;
use crate::error::{MemberError, PartError};
use crate::options::CardsOptions;
use crate::queues::Part;
use crate::scalar_buffers::{JobInputs, Reuse, ScalarBuffer, ScalarBufferPool};
use crate::scalars::Scalars;
use crate::shared::Computed;
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{AffineRepr, PrimeGroup};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::Stats;
use xdma::msm::curve::arkworks::{points_to_bytes, result_to_projective};
use xdma::msm::{DataError, DesignError, JobError, Msm, Points, PrepareError, TimeoutEstimator};

/// Smallest maximum number of pairs of a job with which a design is usable. Larger sums are split into that many jobs.
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
        // The owner of points that no longer exist is about to free the cards' copies.
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

    /// Recovers the card and its client, also after the card was gone or reset, or if its engine hangs and the card can be reset.
    pub fn restart(&mut self) -> Result<(), MemberError> {
        self.msm.card().recover()?;
        Ok(self.msm.recover()?)
    }

    /// Recovers the client after an error.
    pub fn recover(&mut self) -> Result<(), DesignError> {
        self.msm.recover()
    }

    /// Computes a part of a sum, and checks the result if the points have tags. Gives up when `is_unwanted` returns true.
    pub fn compute(&mut self, part: &Part, is_unwanted: &dyn Fn() -> bool) -> Result<Computed, PartError> {
        let (sum, begin) = (&part.sum, Instant::now());
        if is_unwanted() {
            return Err(PartError::Unwanted);
        }
        let points = sum.first + part.pairs.start..sum.first + part.pairs.end;
        let scalars = sum.scalar_range.start + part.pairs.start..sum.scalar_range.start + part.pairs.end;
        let (msm, timeouts) = (&mut self.msm, &mut self.timeouts);
        let loaded = self.points.get(&sum.bases.id).ok_or(PartError::NoPoints)?;
        let inputs = |is_tags, offset: usize| JobInputs {
            points: (sum.bases.id, is_tags),
            point_range: points.clone(),
            scalar_range: offset..offset + points.len(),
        };
        let acquired = self.buffers.acquire(&sum.scalars, &scalars, &inputs(false, 0), Reuse::AnyStart)?;
        let (mut buffer, mut offset, mut bytes_copied) = acquired;
        let prepared = buffer.job(msm, &loaded.points, inputs(false, offset)).map(drop);
        if let Err(PrepareError::Data(DataError::SplitBeat { .. })) = prepared {
            self.buffers.release(buffer);
            (buffer, offset, bytes_copied) =
                self.buffers.acquire(&sum.scalars, &scalars, &inputs(false, 0), Reuse::EvenStart)?;
        }
        let mut run = Run { msm, buffer: &mut buffer, timeouts, is_unwanted };
        let result = run.job(&loaded.points, inputs(false, offset))?;
        let tag = match &loaded.tags {
            Some(tags) => Some(run.job(tags, inputs(true, offset))?),
            None => None,
        };
        // After a failure, the card may still read the buffer. It is then dropped, and `xdma` keeps its memory until the card has
        // finished with it.
        self.buffers.release(buffer);
        let point = result_to_projective(&result)?;
        if let (Some(tag), Some(tags)) = (tag, &sum.bases.tags) {
            let tag = result_to_projective(&tag)?;
            if !tags.verify(&point, &tag, points, sum.scalars.slice(&scalars)) {
                return Err(PartError::Wrong { expected: "the sum over the tags of the points" });
            }
        }
        Ok(Computed { point, time: begin.elapsed(), bytes_copied })
    }

    /// Computes a sum of two pairs whose result is known.
    pub fn test(&mut self) -> Result<(), PartError> {
        let points = self.copy(&[G1Affine::generator(); 2])?;
        let scalars = Scalars::from_fr([Fr::from(3), Fr::from(10)]);
        let inputs = JobInputs { points: (u64::MAX, false), point_range: 0..2, scalar_range: 0..2 };
        let (mut buffer, ..) = self.buffers.acquire(&scalars, &(0..2), &inputs, Reuse::EvenStart)?;
        let (msm, timeouts) = (&mut self.msm, &mut self.timeouts);
        let result =
            Run { msm, buffer: &mut buffer, timeouts, is_unwanted: &|| false }.job(&points, inputs)?;
        match result_to_projective(&result)? == G1Projective::generator() * Fr::from(13) {
            true => Ok(()),
            false => Err(PartError::Wrong { expected: "the known result of the test sum" }),
        }
    }
}

/// The jobs of a part.
struct Run<'a> {
    msm: &'a mut Msm,
    buffer: &'a mut ScalarBuffer,
    timeouts: &'a mut TimeoutEstimator,
    is_unwanted: &'a dyn Fn() -> bool,
}

impl Run<'_> {
    /// Runs one job. If a second one were queued and data of the first were lost on its way to the card, the design would use data
    /// of the second in its place, and the results would be wrong. A job that is alone does not finish, and times out.
    fn job(
        &mut self,
        points: &Points,
        inputs: JobInputs,
    ) -> Result<[u8; xdma::regs::msm::RESULT_BYTES], PartError> {
        let job = self.buffer.job(self.msm, points, inputs)?;
        let (pairs, begin) = (u64::from(job.pairs()), Instant::now());
        let ticket = self.msm.submit(job)?;
        let timeout = self.timeouts.timeout(pairs);
        loop {
            let remaining = timeout.saturating_sub(begin.elapsed());
            match self.msm.wait(ticket, remaining.min(CHECK_INTERVAL)) {
                Ok(output) => {
                    self.timeouts.record(pairs, begin.elapsed());
                    return Ok(output.bytes);
                }
                Err(JobError::Deadline { .. }) if (self.is_unwanted)() => return Err(PartError::Unwanted),
                Err(JobError::Deadline { .. }) if remaining > CHECK_INTERVAL => {}
                Err(JobError::Deadline { label, pairs, state, channel, .. }) => {
                    // Reports the whole timeout. The last wait was only a part of it.
                    return Err(JobError::Deadline { label, pairs, waited: timeout, state, channel }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
