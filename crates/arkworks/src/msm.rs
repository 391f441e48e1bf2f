//! Dispatches the MSMs of provers to the cards or to the CPU.
//!
//! No lock is held while an MSM is computed or waited for. On a thread of rayon's pool, an MSM on the CPU can run other MSMs of
//! the same prover in the meantime, so holding a lock across an MSM would cause a deadlock.

use crate::context::{Context, OnError};
use crate::error::MsmError;
use crate::registry::{self, RegisteredSlice};
use crate::stats::{ComputedOn, MsmReport};
use ark_bn254::{G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::VariableBaseMSM;
use ark_ff::BigInt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma_cards::{PendingSum, Scalars, SumError};

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
                panic!("all cards are out of service; the MSM over {} was not computed", slice.name);
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
    if matches!(error, MsmError::OutOfService) && context.options().on_error == OnError::FallBackToCpu {
        // The failures that led to this have already been logged.
        return ComputedOn::CpuOutOfService;
    }
    match context.options().on_error {
        OnError::FallBackToCpu => {
            tracing::warn!(bases, %error, "the cards failed to compute an MSM; computing it on the CPU");
        }
        OnError::Panic => panic!("the cards failed to compute the MSM over {bases}: {error}"),
    }
    ComputedOn::CpuAfterFailure(Arc::new(error))
}

/// Computes an MSM on the cards. Returns `Err` if it must be computed on the CPU instead, without an attempt on the card.
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
    Ok(start(slice, offset, scalars).and_then(|mut pending| {
        #[cfg(feature = "groth16")]
        overlap::compute_g2_during_h(bases);
        let _ = bases;
        finish(&mut pending)
    }))
}

/// Starts an MSM. `offset` is the index of the first point in the registered slice. Copies the scalars, because the cards may need
/// them longer than the caller's reference lasts.
pub(crate) fn start(
    slice: &RegisteredSlice,
    offset: usize,
    scalars: &[BigInt<4>],
) -> Result<PendingSum, MsmError> {
    let scalars = Scalars::from_canonical(Arc::<[BigInt<4>]>::from(scalars))?;
    start_range(slice, offset, &scalars, 0..scalars.len())
}

/// Starts an MSM over a range of scalars.
pub(crate) fn start_range(
    slice: &RegisteredSlice,
    offset: usize,
    scalars: &Scalars,
    range: Range<usize>,
) -> Result<PendingSum, MsmError> {
    slice.context.cards().submit(&slice.bases, offset, scalars, range).map_err(sum_error)
}

/// Waits for the result of an MSM. The wait is bounded, because each of its parts has a deadline.
pub(crate) fn finish(pending: &mut PendingSum) -> Result<G1Projective, MsmError> {
    pending.wait(Duration::MAX).map(|sum| sum.point).map_err(sum_error)
}

fn sum_error(error: SumError) -> MsmError {
    match error {
        SumError::NoCardLeft { failures, .. } if failures.is_empty() => MsmError::OutOfService,
        SumError::Closed => MsmError::OutOfService,
        error => MsmError::Sum(error),
    }
}
