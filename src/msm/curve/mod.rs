//! BN254 scalars, points and results as the card's bytes.
//!
//! All numbers are little-endian, 32 bytes each. p is the modulus of coordinates, r that of scalars; Montgomery form is
//! the value times 2^256 modulo p or r.
//!
//! | | bytes | form |
//! |---|---|---|
//! | scalar | 32 | below r, canonical or Montgomery, chosen per job |
//! | point | 64: x, y | affine, Montgomery, below p; (0, 0) is infinity |
//! | result | 96: X, Y, Z | homogeneous projective (x = X/Z, y = Y/Z), Montgomery, any representative below 2p; Z = 0 modulo p is infinity |
//!
//! `n` scalars take `32 * n` bytes and `n` points `64 * n` bytes, without gaps. Montgomery is the form in which arkworks and
//! halo2curves hold numbers in memory, so the conversions here are copies at about the speed of memory; canonical scalars cost a
//! multiplication each.
//!
//! No curve library promises a memory layout, so nothing is reinterpreted: limbs are copied one by one. A result is
//! homogeneous as in halo2curves; arkworks' projective type is Jacobian (x = X/Z², y = Y/Z³), which
//! `arkworks::result_to_projective` takes care of.
//!
//! The checks here ([`check_scalars`], [`check_points`]) need no curve library and no feature.

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

pub use check::{check_points, check_scalars, point_is_on_curve, scalar_is_canonical};

use thiserror::Error;

/// Why bytes are not scalars, points or a result. Indices count elements from zero.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CurveError {
    /// A buffer's size does not fit its elements.
    #[error(
        "{actual} bytes for {count} {what}, which take {expected}: a scalar is 32 bytes and a point 64, without gaps; \
         pass a buffer of exactly that size"
    )]
    BufferSize {
        /// "scalars" or "points".
        what: &'static str,
        /// How many there are, or how many whole ones.
        count: usize,
        /// Bytes that they take.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// A scalar that is not below r.
    #[error(
        "scalar {index} is not below r, the order of BN254: reduce it modulo r, and check that scalars are 32 bytes, \
         little-endian"
    )]
    ScalarTooLarge {
        /// Which scalar.
        index: usize,
    },
    /// A coordinate that is not below p.
    #[error(
        "{coordinate} of point {index} is not below p, the modulus of BN254: check that points are 64 bytes, x then \
         y, little-endian"
    )]
    CoordinateTooLarge {
        /// Which point.
        index: usize,
        /// 'x' or 'y'.
        coordinate: char,
    },
    /// A point that does not satisfy y² = x³ + 3.
    #[error(
        "point {index} is not on BN254: check that its coordinates are x then y, in Montgomery form (times 2^256 \
         modulo p), and that the buffer was not changed on the way"
    )]
    NotOnCurve {
        /// Which point.
        index: usize,
    },
    /// A coordinate of a result that is not below 2p.
    #[error(
        "{coordinate} of the result is not below 2p: the design does not return such values, so check that it is the \
         BN254 one and that all 96 bytes were read"
    )]
    ResultTooLarge {
        /// 'X', 'Y' or 'Z'.
        coordinate: char,
    },
    /// A result that is no point.
    #[error(
        "the result is not on BN254: with all bytes zero no result was waiting; otherwise a point that was sent is not \
         on the curve (find it with check_points), or the card computes wrongly"
    )]
    ResultNotOnCurve,
}
