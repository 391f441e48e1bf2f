//! Functions that the conversions for both libraries share.

use super::CurveError;
use super::limbs::{B, Limbs, P, add, below, multiply, read, subtract};
use crate::regs::msm::RESULT_BYTES;

/// Returns X, Y, Z below p, which are a point of the curve or (0, Y, 0).
///
/// # Errors
/// [`CurveError::ResultTooLarge`], [`CurveError::ResultNotOnCurve`].
pub(super) fn coordinates(result: &[u8; RESULT_BYTES]) -> Result<[Limbs; 3], CurveError> {
    let mut values = [[0; 4]; 3];
    for ((value, bytes), coordinate) in values.iter_mut().zip(result.chunks_exact(32)).zip(['X', 'Y', 'Z']) {
        *value = read(bytes);
        if !below(value, &P) {
            *value = subtract(value, &P);
        }
        if !below(value, &P) {
            return Err(CurveError::ResultTooLarge { coordinate });
        }
    }
    if is_on_curve(&values) { Ok(values) } else { Err(CurveError::ResultNotOnCurve) }
}

/// Returns whether Y²Z = X³ + 3Z³, and not all of X, Y, Z are zero.
fn is_on_curve([x, y, z]: &[Limbs; 3]) -> bool {
    let cube = |value| multiply(&multiply(value, value), value);
    let right = add(&cube(x), &multiply(&cube(z), &B));
    multiply(&multiply(y, y), z) == right && [x, y, z].into_iter().flatten().any(|limb| *limb != 0)
}

/// Writes 32 little-endian bytes.
pub(super) fn write(limbs: &Limbs, bytes: &mut [u8]) {
    for (limb, bytes) in limbs.iter().zip(bytes.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&limb.to_le_bytes());
    }
}

/// Rejects a buffer that is not `size` bytes for each of `count` elements.
pub(super) fn check_size(
    what: &'static str,
    count: usize,
    size: usize,
    bytes: &[u8],
) -> Result<(), CurveError> {
    let (expected, actual) = (count * size, bytes.len());
    if expected == actual { Ok(()) } else { Err(CurveError::BufferSize { what, count, expected, actual }) }
}
