//! Points and scalars, and their sum on the CPU.

use anyhow::{Context, Result};
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::UniformRand;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use halo2curves::group::Curve;
use xdma::msm::curve::{arkworks, halo2curves as halo2};
use xdma::regs::msm::{POINT_BYTES, SCALAR_BYTES};

/// A sum's points and scalars.
pub struct Inputs<'a> {
    pub points: &'a [G1Affine],
    pub scalars: &'a [Fr],
}

/// Generates distinct points, each the sum of its predecessor and a fixed point.
pub fn points(count: usize, seed: u64) -> Vec<G1Affine> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut next, step) =
        (G1Projective::rand(&mut rng), (G1Projective::generator() * Fr::rand(&mut rng)).into_affine());
    let mut points = vec![];
    while points.len() < count {
        let batch = (0..(count - points.len()).min(1 << 12)).map(|_| {
            next += step;
            next
        });
        points.extend(G1Projective::normalize_batch(&batch.collect::<Vec<_>>()));
    }
    points
}

/// Generates scalars, uniformly distributed below r.
pub fn scalars(count: usize, seed: u64) -> Vec<Fr> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| Fr::rand(&mut rng)).collect()
}

/// Returns whether halo2curves computes the same sum. It shares no code with the emulated cards.
pub fn is_sum(sum: &G1Projective, inputs: &Inputs<'_>) -> Result<bool> {
    let mut points = vec![0; inputs.points.len() * POINT_BYTES];
    arkworks::points_to_bytes(inputs.points, &mut points)?;
    let mut scalars = vec![0; inputs.scalars.len() * SCALAR_BYTES];
    arkworks::scalars_to_bytes(inputs.scalars, &mut scalars)?;
    let (points, scalars) = (halo2::points_from_bytes(&points)?, halo2::scalars_from_bytes(&scalars)?);
    let expected = halo2curves::msm::msm_best(&scalars, &points).to_affine();
    let mut bytes = [0; POINT_BYTES];
    halo2::points_to_bytes(&[expected], &mut bytes)?;
    let expected = arkworks::points_from_bytes(&bytes)?;
    Ok(sum.into_affine() == *expected.first().context("one point")?)
}
