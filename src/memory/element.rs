//! What may be sent to a card and what may be received from one.

mod sealed {
    pub trait Sealed {}
}

/// Types whose every byte is initialised, so that a card may read them.
///
/// # Safety
///
/// The type has no padding.
pub unsafe trait ToCard: sealed::Sealed + Copy + Send + Sync + 'static {}

/// Types for which any bytes are a value, so that a card may write them.
///
/// # Safety
///
/// Every bit pattern is valid, and the type has no padding.
pub unsafe trait FromCard: ToCard {}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        // SAFETY: an integer or float has no padding.
        unsafe impl ToCard for $t {}
        // SAFETY: any bits are a value of an integer or float.
        unsafe impl FromCard for $t {}
    )*};
}

plain!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

impl<T: ToCard, const N: usize> sealed::Sealed for [T; N] {}
// SAFETY: an array has no padding between elements, and none inside them.
unsafe impl<T: ToCard, const N: usize> ToCard for [T; N] {}
// SAFETY: any bits are a value of each element.
unsafe impl<T: FromCard, const N: usize> FromCard for [T; N] {}

/// The bytes of a slice.
pub fn bytes_of<T: ToCard>(slice: &[T]) -> &[u8] {
    // SAFETY: `ToCard` has no padding, so all `size_of_val` bytes are initialised; u8 has no alignment; the borrow is kept.
    unsafe { std::slice::from_raw_parts(slice.as_ptr().cast(), size_of_val(slice)) }
}

/// The bytes of a slice, to be written.
pub(crate) fn bytes_of_mut<T: FromCard>(slice: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`, and any bytes written are a value of T.
    unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), size_of_val(slice)) }
}
