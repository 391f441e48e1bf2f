//! Conversions from and to halo2curves' BN254 (`halo2curves` 0.10).

use super::convert::{check_size, coordinates, write};
use super::limbs::{Limbs, read};
use super::{CurveError, check_points, check_scalars};
use crate::memory::ToCard;
use crate::regs::msm::{POINT_BYTES, RESULT_BYTES, SCALAR_BYTES};
use halo2curves::bn256::{Fq, Fr, G1, G1Affine};
use halo2curves::group::{Curve, Group};
use std::mem::offset_of;

const _: () = assert!(size_of::<Fr>() == SCALAR_BYTES && align_of::<Fr>() == align_of::<u64>());
// SAFETY: four limbs of 64 bits fill the 32 bytes, as asserted above.
unsafe impl ToCard for Fr {}

const _: () = assert!(size_of::<G1Affine>() == POINT_BYTES && align_of::<G1Affine>() == align_of::<u64>());
const _: () = assert!(offset_of!(G1Affine, x) == 0 && offset_of!(G1Affine, y) == POINT_BYTES / 2);
// SAFETY: two coordinates of four limbs fill the 64 bytes, as asserted above.
unsafe impl ToCard for G1Affine {}

/// Writes `points` to `bytes`, 64 bytes each: x, y, Montgomery form.
///
/// # Errors
/// [`CurveError::BufferSize`] unless `bytes` has exactly `64 * points.len()` bytes.
pub fn points_to_bytes(points: &[G1Affine], bytes: &mut [u8]) -> Result<(), CurveError> {
    check_size("points", points.len(), POINT_BYTES, bytes)?;
    for (point, bytes) in points.iter().zip(bytes.as_chunks_mut::<POINT_BYTES>().0) {
        let (x, y) = bytes.split_at_mut(POINT_BYTES / 2);
        // Infinity is (0, 0) in this library too.
        write(&point.x.0, x);
        write(&point.y.0, y);
    }
    Ok(())
}

/// Copies `scalars` to `bytes`, 32 bytes each, in Montgomery form.
///
/// # Errors
/// [`CurveError::BufferSize`] unless `bytes` has exactly `32 * scalars.len()` bytes.
pub fn scalars_to_bytes(scalars: &[Fr], bytes: &mut [u8]) -> Result<(), CurveError> {
    each_scalar(scalars, bytes, |scalar| scalar.0)
}

/// Writes `scalars` to `bytes`, 32 bytes each, in canonical form. Costs one multiplication per scalar.
///
/// # Errors
/// [`CurveError::BufferSize`] unless `bytes` has exactly `32 * scalars.len()` bytes.
pub fn scalars_to_canonical_bytes(scalars: &[Fr], bytes: &mut [u8]) -> Result<(), CurveError> {
    each_scalar(scalars, bytes, |scalar| read(&scalar.to_bytes()))
}

fn each_scalar(scalars: &[Fr], bytes: &mut [u8], limbs: fn(&Fr) -> Limbs) -> Result<(), CurveError> {
    check_size("scalars", scalars.len(), SCALAR_BYTES, bytes)?;
    for (scalar, bytes) in scalars.iter().zip(bytes.as_chunks_mut::<SCALAR_BYTES>().0) {
        write(&limbs(scalar), bytes);
    }
    Ok(())
}

/// Reads points, 64 bytes each: x, y, Montgomery form. Every point is checked.
///
/// # Errors
/// As [`check_points`].
pub fn points_from_bytes(bytes: &[u8]) -> Result<Vec<G1Affine>, CurveError> {
    check_points(bytes)?;
    let (points, _) = bytes.as_chunks::<POINT_BYTES>();
    Ok(points.iter().map(|point| G1Affine { x: Fq(read(&point[..32])), y: Fq(read(&point[32..])) }).collect())
}

/// Reads scalars in Montgomery form, 32 bytes each. Every scalar is checked.
///
/// # Errors
/// As [`check_scalars`].
pub fn scalars_from_bytes(bytes: &[u8]) -> Result<Vec<Fr>, CurveError> {
    check_scalars(bytes)?;
    let (scalars, _) = bytes.as_chunks::<SCALAR_BYTES>();
    Ok(scalars.iter().map(|scalar| Fr(read(scalar))).collect())
}

/// Reads scalars in canonical form, 32 bytes each. Every scalar is checked.
///
/// # Errors
/// As [`check_scalars`].
pub fn scalars_from_canonical_bytes(bytes: &[u8]) -> Result<Vec<Fr>, CurveError> {
    check_scalars(bytes)?;
    let (scalars, _) = bytes.as_chunks::<SCALAR_BYTES>();
    Ok(scalars.iter().map(|scalar| Fr::from_raw(read(scalar))).collect())
}

/// Converts a result to an affine point.
///
/// # Errors
/// [`CurveError::ResultTooLarge`], [`CurveError::ResultNotOnCurve`].
pub fn result_to_point(bytes: &[u8; RESULT_BYTES]) -> Result<G1Affine, CurveError> {
    Ok(result_to_projective(bytes)?.to_affine())
}

/// Converts a result to a projective point, without an inversion: the result and `G1` are both homogeneous.
///
/// # Errors
/// [`CurveError::ResultTooLarge`], [`CurveError::ResultNotOnCurve`].
pub fn result_to_projective(bytes: &[u8; RESULT_BYTES]) -> Result<G1, CurveError> {
    let [x, y, z] = coordinates(bytes)?;
    if z == [0; 4] {
        return Ok(G1::identity());
    }
    Ok(G1 { x: Fq(x), y: Fq(y), z: Fq(z) })
}
