//! Dispatches the MSMs of provers to the card or to the CPU.
//!
//! No lock is held while an MSM is computed or waited for. On a thread of rayon's pool, an MSM on the CPU can run other MSMs of
//! the same prover in the meantime, so holding a lock across an MSM would cause a deadlock.

use crate::context::{Context, OnError};
use crate::error::MsmError;
use crate::registry::{self, RegisteredSlice};
use crate::scalar_buffers::JobInputs;
use crate::stats::{ComputedOn, MsmReport, increment};
use crate::worker::{PendingBatch, Request, ResultBytes};
use ark_bn254::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::VariableBaseMSM;
use ark_ff::{AdditiveGroup, BigInt, PrimeField};
use std::sync::Arc;
use std::time::Instant;
use xdma::msm::curve::arkworks::result_to_projective;
use xdma::regs::msm::SCALAR_BYTES;

#[cfg(feature = "groth16")]
use crate::groth16::overlap;

/// Computes a G1 MSM. It runs on the card if its points are registered and it is large enough.
pub(crate) fn msm_g1(bases: &[G1Affine], scalars: &[BigInt<4>]) -> G1Projective {
    let found = if bases.is_empty() { None } else { registry::find(bases) };
    match found {
        Some((slice, offset)) => msm_registered(&slice, offset, bases, scalars),
        None => msm_on_cpu(bases, scalars),
    }
}

/// Computes a G2 MSM, which always runs on the CPU.
pub(crate) fn msm_g2(bases: &[G2Affine], scalars: &[BigInt<4>]) -> G2Projective {
    #[cfg(feature = "groth16")]
    if let Some(result) = overlap::take_early_g2(bases, scalars) {
        return result;
    }
    VariableBaseMSM::msm_bigint(bases, scalars)
}

pub(crate) fn msm_on_cpu(bases: &[G1Affine], scalars: &[BigInt<4>]) -> G1Projective {
    VariableBaseMSM::msm_bigint(bases, scalars)
}

fn msm_registered(
    slice: &RegisteredSlice,
    offset: usize,
    bases: &[G1Affine],
    scalars: &[BigInt<4>],
) -> G1Projective {
    let context = &slice.context;
    let begin = Instant::now();
    let (computed_on, result) = match try_on_card(slice, offset, bases, scalars) {
        Ok(Ok(result)) => (ComputedOn::Card, result),
        Ok(Err(error)) => (handle_failure(context, slice.name, error), msm_on_cpu(bases, scalars)),
        Err(computed_on) => {
            let is_out_of_service = matches!(computed_on, ComputedOn::CpuOutOfService);
            if is_out_of_service && context.options().on_error == OnError::Panic {
                panic!("the card is out of service; the MSM over {} was not computed", slice.name);
            }
            (computed_on, msm_on_cpu(bases, scalars))
        }
    };
    let pairs = scalars.len();
    context.record_msm(&MsmReport { bases: slice.name, pairs, computed_on, time: begin.elapsed() });
    result
}

/// Decides where an MSM of this size is computed.
pub(crate) fn choose_device(context: &Context, pairs: usize) -> ComputedOn {
    match context.crossover().min_pairs() {
        Some(min_pairs) if pairs >= min_pairs => match context.is_in_service() {
            true => ComputedOn::Card,
            false => ComputedOn::CpuOutOfService,
        },
        _ => ComputedOn::CpuBelowCrossover,
    }
}

/// Logs a failure, or panics if the options say so.
fn handle_failure(context: &Context, bases: &str, error: MsmError) -> ComputedOn {
    match error {
        // The failures that led to this have already been logged.
        MsmError::OutOfService if context.options().on_error == OnError::FallBackToCpu => {
            return ComputedOn::CpuOutOfService;
        }
        // Sending fails if the worker has exited. Every MSM then runs on the CPU already.
        MsmError::TagMismatch | MsmError::InvalidPoint(_) => drop(context.send(Request::ReportWrongResult)),
        _ => {}
    }
    match context.options().on_error {
        OnError::FallBackToCpu => {
            tracing::warn!(bases, %error, "the card failed to compute an MSM; computing it on the CPU");
        }
        OnError::Panic => panic!("the card failed to compute the MSM over {bases}: {error}"),
    }
    ComputedOn::CpuAfterFailure(Arc::new(error))
}

/// Computes an MSM on the card. Returns `Err` if it must be computed on the CPU instead, without an attempt on the card.
fn try_on_card(
    slice: &RegisteredSlice,
    offset: usize,
    bases: &[G1Affine],
    scalars: &[BigInt<4>],
) -> Result<Result<G1Projective, MsmError>, ComputedOn> {
    #[cfg(feature = "groth16")]
    {
        if overlap::is_recomputed(slice) {
            return Err(ComputedOn::CpuRecomputed);
        }
        if let Some(result) = overlap::wait_early_g1(slice, offset, scalars) {
            return Ok(result);
        }
    }
    match choose_device(&slice.context, scalars.len()) {
        ComputedOn::Card => {}
        cpu => return Err(cpu),
    }
    Ok(PendingMsm::new(slice, offset, scalars).and_then(|pending| {
        #[cfg(feature = "groth16")]
        overlap::compute_g2_during_h(bases);
        let _ = bases;
        pending.finish(slice, scalars)
    }))
}

/// An MSM that the card computes.
pub(crate) struct PendingMsm {
    offset: usize,
    /// One batch for each part of the MSM, which is split at the maximum number of pairs of a job.
    parts: Vec<PendingBatch>,
    part_pairs: usize,
}

impl PendingMsm {
    /// Copies the scalars to DMA memory and enqueues the MSM. `offset` is the index of the first point in the registered slice.
    pub fn new(slice: &RegisteredSlice, offset: usize, scalars: &[BigInt<4>]) -> Result<Self, MsmError> {
        let context = &slice.context;
        let part_pairs = context.max_pairs();
        let starts = (offset..).step_by(part_pairs);
        let parts = scalars.chunks(part_pairs).zip(starts);
        let parts = parts.map(|(scalars, first)| {
            let jobs = msm_jobs(slice, first, 0..scalars.len());
            enqueue(context, scalars, jobs)
        });
        Ok(Self { offset, parts: parts.collect::<Result<_, _>>()?, part_pairs })
    }

    /// Waits for the result, and checks it if the points have tags.
    pub fn finish(self, slice: &RegisteredSlice, scalars: &[BigInt<4>]) -> Result<G1Projective, MsmError> {
        let mut sum = G1Projective::ZERO;
        let starts = (self.offset..).step_by(self.part_pairs);
        for ((mut pending, scalars), first) in
            self.parts.into_iter().zip(scalars.chunks(self.part_pairs)).zip(starts)
        {
            sum += wait_and_check(slice, &mut pending, 0, first, scalars)?;
        }
        Ok(sum)
    }
}

/// Returns the jobs of an MSM: one over its points, and one over their tags if they have any.
pub(crate) fn msm_jobs(
    slice: &RegisteredSlice,
    first: usize,
    scalar_range: std::ops::Range<usize>,
) -> Vec<JobInputs> {
    let tags = slice.tags.as_ref().map(|tags| &tags.points);
    let points = [Some(&slice.points), tags];
    let range = first..first + scalar_range.len();
    let job = |points: &Arc<_>| JobInputs {
        points: Arc::clone(points),
        point_range: range.clone(),
        scalar_range: scalar_range.clone(),
    };
    points.into_iter().flatten().map(job).collect()
}

/// Copies scalars to a buffer and enqueues jobs that use them.
pub(crate) fn enqueue(
    context: &Context,
    scalars: &[BigInt<4>],
    jobs: Vec<JobInputs>,
) -> Result<PendingBatch, MsmError> {
    let Some(job) = jobs.first() else { return Err(MsmError::OutOfService) };
    if let Some(index) = scalars.iter().position(|scalar| *scalar >= Fr::MODULUS) {
        return Err(MsmError::NotCanonical { index });
    }
    let mut buffer = context.scalar_buffers().acquire(scalars.len(), job)?;
    buffer.write(scalars)?;
    increment(&context.atomic_stats().bytes_copied, (scalars.len() * SCALAR_BYTES) as u64);
    PendingBatch::start(context.requests()?, buffer, jobs)
}

/// Waits for the jobs of an MSM, and checks its result if the points have tags. `job` is the index of the first of these jobs
/// in the batch, and `first` is the index of the first point in the registered slice.
pub(crate) fn wait_and_check(
    slice: &RegisteredSlice,
    pending: &mut PendingBatch,
    job: usize,
    first: usize,
    scalars: &[BigInt<4>],
) -> Result<G1Projective, MsmError> {
    let point = |bytes: ResultBytes| Ok::<_, MsmError>(result_to_projective(&bytes)?);
    let result = point(pending.wait(job)?)?;
    if let Some(tags) = &slice.tags {
        let tag = point(pending.wait(job + 1)?)?;
        if !tags.verify(&result, &tag, first, scalars) {
            return Err(MsmError::TagMismatch);
        }
    }
    Ok(result)
}
