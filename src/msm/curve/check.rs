//! Checks of scalars and points before they are sent to the card. They need no curve library.

use super::CurveError;
use super::limbs::{B, Limbs, P, R, add, below, multiply, read};
use crate::regs::msm::{POINT_BYTES, SCALAR_BYTES};

/// Checks that every scalar of a buffer (32 bytes each, little-endian) is below r, the group order of BN254. The bound is the same for
/// canonical and Montgomery form.
///
/// # Errors
/// [`CurveError::BufferSize`] if `scalars` is not a whole number of scalars; [`CurveError::ScalarTooLarge`] for the first scalar
/// that is not below r.
///
/// ```
/// use xdma::msm::curve::check_scalars;
/// assert!(check_scalars(&[0x30; 32]).is_ok());
/// assert!(check_scalars(&[0x31; 32]).is_err());
/// ```
pub fn check_scalars(scalars: &[u8]) -> Result<(), CurveError> {
    let (elements, rest) = scalars.as_chunks::<SCALAR_BYTES>();
    check_whole("scalars", elements.len(), SCALAR_BYTES, rest)?;
    match elements.iter().position(|scalar| !below(&read(scalar), &R)) {
        Some(index) => Err(CurveError::ScalarTooLarge { index }),
        None => Ok(()),
    }
}

/// Checks that the card accepts every point of a buffer (64 bytes each: x then y, little-endian, Montgomery form): both coordinates are
/// below p, and y² = x³ + 3 or the point is (0, 0), which is infinity. G1 of BN254 has cofactor 1, so no subgroup check is needed.
///
/// About 0.1 µs per point.
///
/// # Errors
/// [`CurveError::BufferSize`] if `points` is not a whole number of points; [`CurveError::CoordinateTooLarge`] or
/// [`CurveError::NotOnCurve`] for the first invalid point.
pub fn check_points(points: &[u8]) -> Result<(), CurveError> {
    let (elements, rest) = points.as_chunks::<POINT_BYTES>();
    check_whole("points", elements.len(), POINT_BYTES, rest)?;
    for (index, point) in elements.iter().enumerate() {
        let (x, y) = coordinates(point);
        for (coordinate, value) in [('x', &x), ('y', &y)] {
            if !below(value, &P) {
                return Err(CurveError::CoordinateTooLarge { index, coordinate });
            }
        }
        if !satisfies_equation(&x, &y) {
            return Err(CurveError::NotOnCurve { index });
        }
    }
    Ok(())
}

fn coordinates(point: &[u8; POINT_BYTES]) -> (Limbs, Limbs) {
    let (x, y) = point.split_at(POINT_BYTES / 2);
    (read(x), read(y))
}

fn satisfies_equation(x: &Limbs, y: &Limbs) -> bool {
    let infinity = [x, y].into_iter().flatten().all(|limb| *limb == 0);
    infinity || multiply(y, y) == add(&multiply(&multiply(x, x), x), &B)
}

/// Rejects a buffer that ends inside an element.
fn check_whole(what: &'static str, count: usize, size: usize, rest: &[u8]) -> Result<(), CurveError> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(CurveError::BufferSize { what, count, expected: count * size, actual: count * size + rest.len() })
}
