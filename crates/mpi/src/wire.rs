//! Points and scalars as MPI data types.

use ark_bn254::{Fq, Fr, G1Affine, G1Projective};
use ark_ff::{AdditiveGroup, BigInt, PrimeField, Zero};
use mpi::collective::UnsafeUserOperation;
use mpi::datatype::{DatatypeRef, Equivalence, UserDatatype};
use mpi::ffi::MPI_Datatype;
use std::ffi::{c_int, c_void};
use std::sync::LazyLock;

/// An element of 64-bit words, least significant first. Field elements are in Montgomery form, in which arkworks stores them.
/// MPI does not split an element. The words are native, so all hosts must have the same byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Wire<const WORDS: usize>(pub [u64; WORDS]);

/// A scalar, 32 bytes.
pub(crate) type WireScalar = Wire<4>;
/// An affine point, 64 bytes: x, then y. Infinity is (0, 0).
pub(crate) type WirePoint = Wire<8>;
/// A partial sum, 96 bytes: a Jacobian point, X, then Y, then Z. Infinity is (1, 1, 0) only, so that memory which no rank has written
/// is not a part.
pub(crate) type WireSum = Wire<12>;

macro_rules! equivalence {
    ($($words:literal: $datatype:ident),*) => {$(
        /// Created only once, because MPI compares the handles of data types, not their contents.
        static $datatype: LazyLock<UserDatatype> =
            LazyLock::new(|| UserDatatype::contiguous($words, &u64::equivalent_datatype()));

        // SAFETY: `Wire` is transparent over an array of that many `u64`, which the data type describes, and has no invalid
        // values.
        unsafe impl Equivalence for Wire<$words> {
            type Out = DatatypeRef<'static>;

            fn equivalent_datatype() -> Self::Out {
                $datatype.as_ref()
            }
        }
    )*};
}

equivalence!(4: SCALAR, 8: POINT, 12: SUM);

impl<const WORDS: usize> Wire<WORDS> {
    pub const ZERO: Self = Self([0; WORDS]);
    pub const BYTES: usize = 8 * WORDS;

    fn limbs(&self, element: usize) -> BigInt<4> {
        let mut limbs = [0; 4];
        limbs.copy_from_slice(&self.0[4 * element..4 * element + 4]);
        BigInt(limbs)
    }

    fn coordinate(&self, element: usize) -> Fq {
        Fq::new_unchecked(self.limbs(element))
    }

    /// Returns whether all coordinates are below the modulus.
    fn is_reduced(&self) -> bool {
        (0..WORDS / 4).all(|element| self.limbs(element) < Fq::MODULUS)
    }
}

pub(crate) fn scalar_to_wire(scalar: &Fr) -> WireScalar {
    Wire(scalar.0.0)
}

/// Returns `None` if the scalar is not reduced.
pub(crate) fn scalar_from_wire(wire: &WireScalar) -> Option<Fr> {
    (wire.limbs(0) < Fr::MODULUS).then(|| Fr::new_unchecked(wire.limbs(0)))
}

pub(crate) fn point_to_wire(point: &G1Affine) -> WirePoint {
    let mut words = [0; 8];
    words[..4].copy_from_slice(&point.x.0.0);
    words[4..].copy_from_slice(&point.y.0.0);
    Wire(words)
}

/// Returns `None` if a coordinate is not reduced. Does not check that the point is on the curve, because registering it does.
pub(crate) fn point_from_wire(wire: &WirePoint) -> Option<G1Affine> {
    wire.is_reduced().then(|| G1Affine::new_unchecked(wire.coordinate(0), wire.coordinate(1)))
}

pub(crate) fn sum_to_wire(sum: &G1Projective) -> WireSum {
    let sum = if sum.is_zero() { &G1Projective::ZERO } else { sum };
    let mut words = [0; 12];
    for (words, coordinate) in words.chunks_exact_mut(4).zip([sum.x, sum.y, sum.z]) {
        words.copy_from_slice(&coordinate.0.0);
    }
    Wire(words)
}

/// Returns `None` if a coordinate is not reduced, or if Z is zero and this is not (1, 1, 0).
pub(crate) fn sum_from_wire(wire: &WireSum) -> Option<G1Projective> {
    let coordinate = |element| wire.coordinate(element);
    let sum = wire
        .is_reduced()
        .then(|| G1Projective::new_unchecked(coordinate(0), coordinate(1), coordinate(2)))?;
    (!sum.is_zero() || *wire == sum_to_wire(&sum)).then_some(sum)
}

/// Returns the reduction of partial sums: the addition of points.
pub(crate) fn addition() -> UnsafeUserOperation {
    // SAFETY: the addition of points is commutative and associative. `add` does not panic, and is used with `WireSum` only.
    unsafe { UnsafeUserOperation::commutative(add) }
}

/// Adds `len` partial sums of `parts` to those in `sums`.
///
/// # Safety
///
/// Called by MPI, with the arguments of an `MPI_User_function`, for elements of type `WireSum`.
unsafe extern "C" fn add(parts: *mut c_void, sums: *mut c_void, len: *mut c_int, _: *mut MPI_Datatype) {
    // SAFETY: MPI passes a valid length.
    let len = usize::try_from(unsafe { *len }).unwrap_or(0);
    let (parts, sums) = (parts.cast::<WireSum>(), sums.cast::<WireSum>());
    for index in 0..len {
        // SAFETY: both buffers have `len` elements. MPI aligns them for the data type's parts; unaligned accesses assume less.
        let (part, sum) = unsafe { (parts.add(index).read_unaligned(), sums.add(index).read_unaligned()) };
        let sum = match (sum_from_wire(&part), sum_from_wire(&sum)) {
            (Some(part), Some(sum)) => sum_to_wire(&(part + sum)),
            // This function cannot return an error. A coordinate that is not reduced shows the root that the result is not a
            // point.
            _ => Wire([u64::MAX; 12]),
        };
        // SAFETY: as above.
        unsafe { sums.add(index).write_unaligned(sum) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};

    #[test]
    fn points_and_scalars_are_the_same_after_the_transport() {
        let points = [
            G1Affine::generator(),
            G1Affine::identity(),
            (G1Affine::generator() * Fr::from(7)).into_affine(),
        ];
        assert!(points.iter().all(|point| point_from_wire(&point_to_wire(point)) == Some(*point)));
        let sums = [G1Projective::generator() * Fr::from(9), G1Projective::ZERO];
        assert!(sums.iter().all(|sum| sum_from_wire(&sum_to_wire(sum)) == Some(*sum)));
        assert_eq!(scalar_from_wire(&scalar_to_wire(&Fr::from(5))), Some(Fr::from(5)));
    }

    #[test]
    fn elements_above_the_modulus_are_rejected() {
        assert!(scalar_from_wire(&Wire([u64::MAX; 4])).is_none());
        assert!(point_from_wire(&Wire([u64::MAX; 8])).is_none());
        assert!(sum_from_wire(&Wire([u64::MAX; 12])).is_none());
    }

    #[test]
    fn memory_that_no_rank_has_written_is_not_a_part() {
        assert!(sum_from_wire(&WireSum::ZERO).is_none());
        let generator = G1Projective::generator();
        let opposite = generator - generator.double() + generator;
        assert_eq!(sum_from_wire(&sum_to_wire(&opposite)), Some(G1Projective::ZERO));
    }

    #[test]
    fn the_operation_adds_points() {
        let multiple = |k: u64| G1Projective::generator() * Fr::from(k);
        let mut parts = [1, 2, 5].map(|k| sum_to_wire(&multiple(k)));
        let mut sums = [10, 2, 0].map(|k| sum_to_wire(&multiple(k)));
        sums[2] = sum_to_wire(&G1Projective::ZERO);
        let (mut len, mut datatype): (_, *mut c_void) = (3, std::ptr::null_mut());
        // SAFETY: the arguments of an `MPI_User_function`, with three elements in each array.
        unsafe {
            add(parts.as_mut_ptr().cast(), sums.as_mut_ptr().cast(), &mut len, (&raw mut datatype).cast())
        };
        assert_eq!(sums.map(|sum| sum_from_wire(&sum).unwrap()), [11, 4, 5].map(multiple));
        parts[0] = Wire([u64::MAX; 12]);
        // SAFETY: as above.
        unsafe {
            add(parts.as_mut_ptr().cast(), sums.as_mut_ptr().cast(), &mut len, (&raw mut datatype).cast())
        };
        assert_eq!(sum_from_wire(&sums[0]), None);
    }
}
