//! Points and scalars, generated from a seed or read from files. A file contains elements in the card's format, without a header:
//! 64 bytes per point (x, then y, Montgomery form), 32 bytes per scalar, little-endian.

use crate::human::cannot;
use anyhow::{Context, Result, ensure};
use ark_bn254::{Fr, G1Affine, G1Projective};
use ark_ec::{CurveGroup, PrimeGroup, VariableBaseMSM};
use ark_ff::UniformRand;
use rand_08::{SeedableRng, rngs::StdRng};
use std::fs;
use std::path::Path;
use std::thread;
use xdma::msm::curve::arkworks as curve;
use xdma::regs::msm::{POINT_BYTES, SCALAR_BYTES};

/// Generates `count` distinct points. They are not independent: adjacent points differ by the same point. An MSM takes the same
/// time on them as on random points, and generating 2^20 of them takes only about a second.
pub fn random_points(count: usize, seed: u64) -> Vec<G1Affine> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (first, step) = (G1Projective::rand(&mut rng), G1Projective::rand(&mut rng));
    let step_affine = step.into_affine();
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    let share = count.div_ceil(threads).max(1);
    let mut points = vec![G1Affine::identity(); count];
    thread::scope(|scope| {
        for (i, points) in points.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                let mut next = first + step.mul_bigint([(i * share) as u64]);
                // These batches fit in the cache.
                for batch in points.chunks_mut(1 << 12) {
                    let sums: Vec<_> = batch
                        .iter()
                        .map(|_| {
                            next += step_affine;
                            next
                        })
                        .collect();
                    batch.copy_from_slice(&G1Projective::normalize_batch(&sums));
                }
            });
        }
    });
    points
}

/// Generates `count` scalars, uniformly distributed below r.
pub fn random_scalars(count: usize, seed: u64) -> Vec<Fr> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| Fr::rand(&mut rng)).collect()
}

/// Computes the MSM on the CPU, with arkworks on all processors.
///
/// # Errors
/// If the numbers of points and scalars differ.
// Compiled only with the examples that call it, since arkworks' MSM takes long to compile.
#[inline]
pub fn cpu_msm(points: &[G1Affine], scalars: &[Fr]) -> Result<G1Affine> {
    ensure!(
        points.len() == scalars.len(),
        "{} points and {} scalars: an MSM needs equal numbers of both",
        points.len(),
        scalars.len()
    );
    Ok(G1Projective::msm_unchecked(points, scalars).into_affine())
}

/// Reads a file of points and checks that they are on the curve.
///
/// # Errors
/// If the file cannot be read, does not contain whole points, or contains a point that is not on the curve.
pub fn read_points(path: &Path) -> Result<Vec<G1Affine>> {
    let bytes = read(path, "points", POINT_BYTES)?;
    curve::points_from_bytes(&bytes).with_context(|| format!("points in {}", path.display()))
}

/// Reads a file of scalars, in Montgomery or canonical form.
///
/// # Errors
/// If the file cannot be read, does not contain whole scalars, or contains a scalar that is not below r.
pub fn read_scalars(path: &Path, montgomery: bool) -> Result<Vec<Fr>> {
    let bytes = read(path, "scalars", SCALAR_BYTES)?;
    let scalars = if montgomery {
        curve::scalars_from_bytes(&bytes)
    } else {
        curve::scalars_from_canonical_bytes(&bytes)
    };
    scalars.with_context(|| format!("scalars in {}", path.display()))
}

/// Writes points in the format that [`read_points`] reads.
///
/// # Errors
/// If the file cannot be written.
pub fn write_points(path: &Path, points: &[G1Affine]) -> Result<()> {
    let mut bytes = vec![0; points.len() * POINT_BYTES];
    curve::points_to_bytes(points, &mut bytes)?;
    fs::write(path, bytes).with_context(|| cannot("write points to", path))
}

/// Writes a file for [`read_scalars`], with scalars in Montgomery or canonical form.
///
/// # Errors
/// If the file cannot be written.
pub fn write_scalars(path: &Path, scalars: &[Fr], montgomery: bool) -> Result<()> {
    let mut bytes = vec![0; scalars.len() * SCALAR_BYTES];
    if montgomery {
        curve::scalars_to_bytes(scalars, &mut bytes)?;
    } else {
        curve::scalars_to_canonical_bytes(scalars, &mut bytes)?;
    }
    fs::write(path, bytes).with_context(|| cannot("write scalars to", path))
}

/// Reads a file of elements of `size` bytes, at least one.
fn read(path: &Path, what: &str, size: usize) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| cannot(&format!("read {what} from"), path))?;
    ensure!(
        !bytes.is_empty() && bytes.len().is_multiple_of(size),
        "{} has {} bytes, which is not a positive multiple of {size}: a file of {what} contains {size} bytes per element and \
         no header, so it is truncated or has another format",
        path.display(),
        bytes.len()
    );
    Ok(bytes)
}
