//! Checks of bytes before they go to the card, without any curve library.

use super::CurveError;
use super::limbs::{B, Limbs, P, R, add, below, multiply, read};
use crate::regs::msm::{POINT_BYTES, SCALAR_BYTES};

/// Whether a scalar (32 bytes, little-endian) is below r, BN254's group order. The bound is the same for canonical and
/// Montgomery form.
///
/// ```
/// use xdma::msm::curve::scalar_is_canonical;
/// assert!(scalar_is_canonical(&[0x30; 32]));
/// assert!(!scalar_is_canonical(&[0x31; 32]));
/// ```
pub fn scalar_is_canonical(scalar: &[u8; SCALAR_BYTES]) -> bool {
    below(&read(scalar), &R)
}

/// Whether a point (64 bytes: x, y, little-endian, Montgomery form) is one that the card takes: both coordinates below p
/// and y² = x³ + 3, or (0, 0), which is infinity. BN254's G1 has no subgroup to check.
///
/// About 0.1 µs a point.
pub fn point_is_on_curve(point: &[u8; POINT_BYTES]) -> bool {
    let (x, y) = coordinates(point);
    below(&x, &P) && below(&y, &P) && satisfies_equation(&x, &y)
}

/// Checks every scalar of a buffer with [`scalar_is_canonical`].
///
/// # Errors
/// [`CurveError::BufferSize`] unless `scalars` is whole scalars; [`CurveError::ScalarTooLarge`] for the first that is not
/// below r.
pub fn check_scalars(scalars: &[u8]) -> Result<(), CurveError> {
    let (elements, rest) = scalars.as_chunks::<SCALAR_BYTES>();
    whole("scalars", elements.len(), SCALAR_BYTES, rest)?;
    match elements.iter().position(|scalar| !scalar_is_canonical(scalar)) {
        Some(index) => Err(CurveError::ScalarTooLarge { index }),
        None => Ok(()),
    }
}

/// Checks every point of a buffer with [`point_is_on_curve`].
///
/// # Errors
/// [`CurveError::BufferSize`] unless `points` is whole points; [`CurveError::CoordinateTooLarge`] or
/// [`CurveError::NotOnCurve`] for the first bad one.
pub fn check_points(points: &[u8]) -> Result<(), CurveError> {
    let (elements, rest) = points.as_chunks::<POINT_BYTES>();
    whole("points", elements.len(), POINT_BYTES, rest)?;
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

/// Refuses a buffer that ends inside an element.
fn whole(what: &'static str, count: usize, size: usize, rest: &[u8]) -> Result<(), CurveError> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(CurveError::BufferSize { what, count, expected: count * size, actual: count * size + rest.len() })
}
