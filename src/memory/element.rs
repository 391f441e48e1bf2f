//! Element types that a card can read or write.

/// Types without uninitialised bytes, which a card can read in place.
///
/// Integers, floats and arrays of these implement it. So do the scalars and affine points of arkworks and halo2curves on BN254,
/// with the features `arkworks` and `halo2curves`.
///
/// For a type of your own:
///
/// ```
/// use xdma::memory::ToCard;
///
/// #[derive(Clone, Copy)]
/// #[repr(C)]
/// struct Sample {
///     channel: u32,
///     value: f32,
/// }
///
/// // SAFETY: `repr(C)`, and two fields of 4 bytes leave no padding.
/// unsafe impl ToCard for Sample {}
/// const _: () = assert!(size_of::<Sample>() == 8);
/// ```
///
/// # Safety
///
/// The type has no padding and no interior mutability: each of its bytes is initialised in every value, and no byte changes while
/// a shared reference to the value exists.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read in place by a card",
    label = "not an integer, a float, an array of these, or a type that implements `ToCard`",
    note = "implement `unsafe trait ToCard` if every byte of `{Self}` is initialised (`repr(C)`, no padding, no pointers)",
    note = "enable the feature `arkworks` or `halo2curves` for their scalars and points"
)]
pub unsafe trait ToCard: Copy + Send + Sync + 'static {}

/// Types for which every bit pattern is a valid value, so that a card can write them.
///
/// Integers, floats and arrays of these implement it. Field elements and points do not: a card could write a number that is not
/// in the field.
///
/// ```
/// use xdma::memory::{FromCard, ToCard};
///
/// #[derive(Clone, Copy)]
/// #[repr(C)]
/// struct Event {
///     time: u64,
///     code: u64,
/// }
///
/// // SAFETY: `repr(C)`, and two fields of 8 bytes leave no padding.
/// unsafe impl ToCard for Event {}
/// // SAFETY: every bit pattern is a valid `u64`.
/// unsafe impl FromCard for Event {}
/// ```
///
/// # Safety
///
/// Every bit pattern is a valid value of the type.
#[diagnostic::on_unimplemented(
    message = "a card cannot write `{Self}`",
    label = "not an integer, a float, an array of these, or a type that implements `FromCard`",
    note = "receive bytes (`u8`) and convert them, or implement `unsafe trait FromCard` if any bytes are a valid `{Self}`"
)]
pub unsafe trait FromCard: ToCard {}

macro_rules! plain {
    ($($t:ty),*) => {$(
        // SAFETY: an integer or float has no padding.
        unsafe impl ToCard for $t {}
        // SAFETY: every bit pattern is a valid integer or float.
        unsafe impl FromCard for $t {}
    )*};
}

plain!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

// SAFETY: an array has no padding between elements, and none inside them.
unsafe impl<T: ToCard, const N: usize> ToCard for [T; N] {}
// SAFETY: every bit pattern is a valid value of each element.
unsafe impl<T: FromCard, const N: usize> FromCard for [T; N] {}

/// Returns the bytes of a slice.
pub(crate) fn bytes_of<T: ToCard>(slice: &[T]) -> &[u8] {
    // SAFETY: `ToCard` types have no padding, so all `size_of_val` bytes are initialised; `u8` needs no alignment; the lifetime
    // is the same.
    unsafe { std::slice::from_raw_parts(slice.as_ptr().cast(), size_of_val(slice)) }
}

/// Returns the bytes of a slice for writing.
pub(crate) fn bytes_of_mut<T: FromCard>(slice: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`, and any bytes written are a valid `T`.
    unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), size_of_val(slice)) }
}
