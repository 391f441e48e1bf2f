//! Copies between a program's buffers and memory of the driver.

use core::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};
use std::ptr::copy_nonoverlapping;

/// Number of vectors that are copied at once.
const VECTORS: usize = 16;
/// Size in bytes of a vector.
const VECTOR: usize = 32;

/// Copies `length` bytes. Takes fewer instructions than `memcpy`, which repeats a string instruction for large copies.
///
/// # Safety
///
/// As for [`copy_nonoverlapping`].
pub unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's contract; the processor has the instructions.
    unsafe {
        match is_x86_feature_detected!("avx") {
            true => copy_vectors(from, to, length),
            false => copy_nonoverlapping(from, to, length),
        }
    }
}

/// # Safety
///
/// As for [`copy_nonoverlapping`].
#[target_feature(enable = "avx")]
unsafe fn copy_vectors(from: *const u8, to: *mut u8, length: usize) {
    let whole = length / (VECTORS * VECTOR) * (VECTORS * VECTOR);
    for offset in (0..whole).step_by(VECTORS * VECTOR) {
        // SAFETY: all vectors are inside both buffers.
        unsafe {
            let from: *const __m256i = from.add(offset).cast();
            let to: *mut __m256i = to.add(offset).cast();
            let vectors: [__m256i; VECTORS] = std::array::from_fn(|at| _mm256_loadu_si256(from.add(at)));
            for (at, vector) in vectors.into_iter().enumerate() {
                _mm256_storeu_si256(to.add(at), vector);
            }
        }
    }
    // SAFETY: the rest of both buffers.
    unsafe { copy_nonoverlapping(from.add(whole), to.add(whole), length - whole) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied() {
        let from: Vec<u8> = (0..5000u32).map(|at| (at * 7 + (at >> 8)) as u8).collect();
        for length in [0, 1, 31, 511, 512, 513, 1024, 4999] {
            let mut to = vec![0; length + 1];
            // SAFETY: both buffers are long enough.
            unsafe { copy(from[1..].as_ptr(), to.as_mut_ptr(), length) };
            assert_eq!((&to[..length], to[length]), (&from[1..][..length], 0));
        }
    }
}
