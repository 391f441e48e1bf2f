//! A result's coordinates, before any library sees them.

use super::CurveError;
use super::limbs::{B, Limbs, P, add, below, multiply, read, subtract};
use crate::regs::msm::RESULT_BYTES;

/// X, Y, Z below p; a point of the curve or (0, Y, 0).
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

/// Y²Z = X³ + 3Z³, and not (0, 0, 0), which is no point.
fn is_on_curve([x, y, z]: &[Limbs; 3]) -> bool {
    let cube = |value| multiply(&multiply(value, value), value);
    let right = add(&cube(x), &multiply(&cube(z), &B));
    multiply(&multiply(y, y), z) == right && [x, y, z].into_iter().flatten().any(|limb| *limb != 0)
}

/// The homogeneous (X : Y : Z) as the Jacobian (XZ : YZ² : Z).
#[cfg(feature = "arkworks")]
pub(super) fn to_jacobian([x, y, z]: &[Limbs; 3]) -> [Limbs; 3] {
    [multiply(x, z), multiply(y, &multiply(z, z)), *z]
}
