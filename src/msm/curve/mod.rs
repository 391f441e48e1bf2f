//! Conversions and checks of BN254 scalars, points and results in the card's format.
//!
//! All numbers are little-endian, 32 bytes each. p is the modulus of coordinates, r the modulus of scalars; Montgomery form is
//! the value times 2^256 modulo p or r.
//!
//! | | bytes | form |
//! |---|---|---|
//! | scalar | 32 | below r, canonical or Montgomery, chosen per job |
//! | point | 64: x, y | affine, Montgomery, below p; (0, 0) is infinity |
//! | result | 96: X, Y, Z | homogeneous projective (x = X/Z, y = Y/Z), Montgomery, any representative below 2p; Z = 0 modulo p is infinity |
//!
//! `n` scalars take `32 * n` bytes and `n` points `64 * n` bytes, without gaps. arkworks and halo2curves store numbers in
//! Montgomery form, so the conversions here are copies at about the speed of memory; canonical scalars cost a multiplication
//! each.
//!
//! The conversions do not rely on the memory layout of a curve library; they copy each limb. A result is homogeneous, as in
//! halo2curves. arkworks' projective type is Jacobian (x = X/Z², y = Y/Z³), and `arkworks::result_to_projective` converts to
//! it.
//!
//! The checks ([`check_scalars`], [`check_points`]) need no curve library and no feature.

#[cfg(feature = "arkworks")]
pub mod arkworks;
mod check;
#[cfg(any(feature = "arkworks", feature = "halo2curves"))]
mod convert;
#[cfg(feature = "halo2curves")]
pub mod halo2curves;
mod limbs;
#[cfg(all(test, feature = "arkworks", feature = "halo2curves"))]
mod tests;

pub use check::{check_points, check_scalars};

use crate::Remedy;
use thiserror::Error;

/// Why bytes are not valid scalars, points or a result. Indices count elements from zero.
///
/// Returned by the checks and conversions of this module, and part of [`DataError`](super::DataError).
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CurveError {
    /// The size of a buffer does not match its number of elements.
    #[error(
        "{count} {what} take {expected} bytes, and the buffer has {actual}; pass a buffer of exactly that size (32 bytes per \
         scalar, 64 per point, without gaps)"
    )]
    BufferSize {
        /// "scalars" or "points".
        what: &'static str,
        /// Number of elements, or of whole elements in the buffer.
        count: usize,
        /// Number of bytes that these elements occupy.
        expected: usize,
        /// Number of bytes in the buffer.
        actual: usize,
    },
    /// A scalar is not below r.
    #[error(
        "scalar {index} is not below r, the order of BN254: reduce it modulo r, and check that scalars are 32 bytes, \
         little-endian"
    )]
    ScalarTooLarge {
        /// Index of the scalar.
        index: usize,
    },
    /// A coordinate is not below p.
    #[error(
        "{coordinate} of point {index} is not below p, the modulus of BN254: check that points are 64 bytes, x then \
         y, little-endian"
    )]
    CoordinateTooLarge {
        /// Index of the point.
        index: usize,
        /// 'x' or 'y'.
        coordinate: char,
    },
    /// A point does not satisfy y² = x³ + 3.
    #[error(
        "point {index} is not on BN254: check that its coordinates are x then y, in Montgomery form (times 2^256 \
         modulo p), and that the buffer was not changed on the way"
    )]
    NotOnCurve {
        /// Index of the point.
        index: usize,
    },
    /// A coordinate of a result is not below 2p.
    #[error(
        "{coordinate} of the result is not below 2p: the design does not return such values, so check that it is the \
         BN254 one and that all 96 bytes were read"
    )]
    ResultTooLarge {
        /// 'X', 'Y' or 'Z'.
        coordinate: char,
    },
    /// A result is not a point of the curve.
    #[error(
        "the result is not on BN254: with all bytes zero no result was waiting; otherwise a point that was sent is not \
         on the curve (find it with check_points), or the card computes wrongly"
    )]
    ResultNotOnCurve,
}

impl CurveError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        Remedy::Correct
    }
}
