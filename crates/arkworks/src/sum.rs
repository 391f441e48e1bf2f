//! The sums of provers: which ones run on the card, and how.
//!
//! No lock is held while a sum is computed or waited for. On a thread of rayon's pool, a sum on the CPU can run other sums of the
//! same prover in between; a lock that is held meanwhile would deadlock.

use crate::context::{Context, OnError};
use crate::error::SumError;
use crate::registry::{self, Registration};
use crate::report::{Place, Sum, add};
use crate::slots::Product;
use crate::worker::{Pending, Request, ResultBytes};
use ark_bn254::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::VariableBaseMSM;
use ark_ff::{AdditiveGroup, BigInt, PrimeField};
use std::sync::Arc;
use std::time::Instant;
use xdma::msm::curve::arkworks::result_to_projective;
use xdma::regs::msm::SCALAR_BYTES;

#[cfg(feature = "groth16")]
use crate::groth16::overlap;

/// Computes a sum in G1: on the card, if its points are registered and it is large enough.
pub(crate) fn g1(bases: &[G1Affine], scalars: &[BigInt<4>]) -> G1Projective {
    let found = if bases.is_empty() { None } else { registry::find(bases) };
    match found {
        Some((registration, offset)) => registered(&registration, offset, bases, scalars),
        None => cpu(bases, scalars),
    }
}

/// Computes a sum in G2, which always runs on the CPU.
pub(crate) fn g2(bases: &[G2Affine], scalars: &[BigInt<4>]) -> G2Projective {
    #[cfg(feature = "groth16")]
    if let Some(sum) = overlap::take_g2(bases, scalars) {
        return sum;
    }
    VariableBaseMSM::msm_bigint(bases, scalars)
}

pub(crate) fn cpu(bases: &[G1Affine], scalars: &[BigInt<4>]) -> G1Projective {
    VariableBaseMSM::msm_bigint(bases, scalars)
}

fn registered(
    registration: &Registration,
    offset: usize,
    bases: &[G1Affine],
    scalars: &[BigInt<4>],
) -> G1Projective {
    #[cfg(feature = "groth16")]
    if overlap::is_cpu_only() {
        return cpu(bases, scalars);
    }
    let context = &registration.context;
    let begin = Instant::now();
    let (place, sum) = match on_card(registration, offset, bases, scalars) {
        Ok(Ok(sum)) => (Place::Card, sum),
        Ok(Err(error)) => (failed(context, registration.name, error), cpu(bases, scalars)),
        Err(place) => (place, cpu(bases, scalars)),
    };
    let pairs = scalars.len();
    context.report(&Sum { bases: registration.name, pairs, place, time: begin.elapsed() });
    sum
}

/// Decides where a sum of this size is computed.
pub(crate) fn place(context: &Context, pairs: usize) -> Place {
    match context.crossover().pairs() {
        Some(crossover) if pairs >= crossover => match context.is_in_service() {
            true => Place::Card,
            false => Place::OutOfService,
        },
        _ => Place::Small,
    }
}

/// Logs a failure.
fn failed(context: &Context, bases: &str, error: SumError) -> Place {
    match error {
        // The failure that caused this was logged.
        SumError::OutOfService => return Place::OutOfService,
        // Without a worker, the card is out of service already.
        SumError::Wrong | SumError::Result(_) => drop(context.send(Request::WrongResult)),
        _ => {}
    }
    match context.options().on_error {
        OnError::Cpu => tracing::warn!(bases, %error, "the card did not compute a sum; the CPU computes it"),
        OnError::Panic => panic!("the card did not compute the sum over {bases}: {error}"),
    }
    Place::Failed(Arc::new(error))
}

/// Computes a sum on the card, or returns where it belongs.
fn on_card(
    registration: &Registration,
    offset: usize,
    bases: &[G1Affine],
    scalars: &[BigInt<4>],
) -> Result<Result<G1Projective, SumError>, Place> {
    #[cfg(feature = "groth16")]
    if let Some(sum) = overlap::take_g1(registration, offset, scalars) {
        return Ok(sum);
    }
    match place(&registration.context, scalars.len()) {
        Place::Card => {}
        place => return Err(place),
    }
    Ok(Started::new(registration, offset, scalars).and_then(|started| {
        #[cfg(feature = "groth16")]
        overlap::compute_g2_meanwhile(bases);
        let _ = bases;
        started.finish(registration, scalars)
    }))
}

/// A sum that the card computes.
pub(crate) struct Started {
    offset: usize,
    /// One for each part that the design accepts as a job.
    parts: Vec<Pending>,
    part_pairs: usize,
}

impl Started {
    /// Copies the scalars, and sends the sum to the card. `offset` is the index of the first point in the registered slice.
    pub fn new(registration: &Registration, offset: usize, scalars: &[BigInt<4>]) -> Result<Self, SumError> {
        let context = &registration.context;
        let part_pairs = context.max_pairs();
        let starts = (offset..).step_by(part_pairs);
        let parts = scalars.chunks(part_pairs).zip(starts);
        let parts = parts.map(|(scalars, first)| {
            let products = products(registration, first, 0..scalars.len());
            start(context, scalars, products)
        });
        Ok(Self { offset, parts: parts.collect::<Result<_, _>>()?, part_pairs })
    }

    /// Waits for the result, and checks it if the points have tags.
    pub fn finish(
        self,
        registration: &Registration,
        scalars: &[BigInt<4>],
    ) -> Result<G1Projective, SumError> {
        let mut sum = G1Projective::ZERO;
        let starts = (self.offset..).step_by(self.part_pairs);
        for ((mut pending, scalars), first) in
            self.parts.into_iter().zip(scalars.chunks(self.part_pairs)).zip(starts)
        {
            sum += result(registration, &mut pending, 0, first, scalars)?;
        }
        Ok(sum)
    }
}

/// Returns the products of a sum, for its points and for their tags.
pub(crate) fn products(
    registration: &Registration,
    first: usize,
    scalar_range: std::ops::Range<usize>,
) -> Vec<Product> {
    let tags = registration.tags.as_ref().map(|tags| &tags.points);
    let points = [Some(&registration.points), tags];
    let range = first..first + scalar_range.len();
    let product = |points: &Arc<_>| Product {
        points: Arc::clone(points),
        point_range: range.clone(),
        scalar_range: scalar_range.clone(),
    };
    points.into_iter().flatten().map(product).collect()
}

/// Copies scalars to a slot, and starts products with it.
pub(crate) fn start(
    context: &Context,
    scalars: &[BigInt<4>],
    products: Vec<Product>,
) -> Result<Pending, SumError> {
    let Some(product) = products.first() else { return Err(SumError::OutOfService) };
    if let Some(index) = scalars.iter().position(|scalar| *scalar >= Fr::MODULUS) {
        return Err(SumError::NotCanonical { index });
    }
    let mut slot = context.slots().take(scalars.len(), product)?;
    slot.write(scalars)?;
    add(&context.counters().bytes_copied, (scalars.len() * SCALAR_BYTES) as u64);
    Pending::start(context.requests()?, slot, products)
}

/// Waits for the products of a sum, of which `at` is the first in its batch, and checks them.
pub(crate) fn result(
    registration: &Registration,
    pending: &mut Pending,
    at: usize,
    first: usize,
    scalars: &[BigInt<4>],
) -> Result<G1Projective, SumError> {
    let point = |bytes: ResultBytes| Ok::<_, SumError>(result_to_projective(&bytes)?);
    let sum = point(pending.wait(at)?)?;
    if let Some(tags) = &registration.tags {
        let tag = point(pending.wait(at + 1)?)?;
        if !tags.fit(&sum, &tag, first, scalars) {
            return Err(SumError::Wrong);
        }
    }
    Ok(sum)
}
