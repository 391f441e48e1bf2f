//! Copies between a program's buffers and memory of the driver.

use std::arch::asm;
use std::ptr::copy_nonoverlapping;

/// Numbers of bytes copied by each iteration of the loops: 256 and 64 vectors of 32 bytes.
const LARGE: usize = 8192;
const SMALL: usize = 2048;

/// Copies `length` bytes. Takes fewer instructions than `memcpy`, which repeats a string instruction for large copies.
///
/// # Safety
///
/// As for [`copy_nonoverlapping`]. In addition, the memory of the driver may be memory that a card or another process writes.
#[inline(always)]
pub unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    let mut copied = 0;
    if is_x86_feature_detected!("avx") {
        copied = length / SMALL * SMALL;
        // SAFETY: the processor has the instructions, and the blocks are inside both buffers.
        unsafe { copy_vectors(from, to, copied) };
    }
    if copied < length {
        // SAFETY: the rest of both buffers.
        unsafe { copy_nonoverlapping(from.add(copied), to.add(copied), length - copied) };
    }
}

/// Copies a multiple of `SMALL` bytes. Not inlined, because it is long.
///
/// # Safety
///
/// The processor has AVX; the rest as for [`copy`].
#[inline(never)]
unsafe fn copy_vectors(from: *const u8, to: *mut u8, length: usize) {
    let large = length / LARGE * LARGE;
    // SAFETY: the caller's contract; the blocks are inside both buffers.
    unsafe {
        copy_blocks::<LARGE>(from, to, large);
        copy_blocks::<SMALL>(from.add(large), to.add(large), length - large);
    }
}

/// Copies blocks of `BLOCK` bytes. In assembly, because the compiler does not unroll a loop this far.
///
/// # Safety
///
/// The processor has AVX; `length` is a multiple of `BLOCK`, and `BLOCK` of 64; the rest as for [`copy`].
#[inline(always)]
unsafe fn copy_blocks<const BLOCK: usize>(from: *const u8, to: *mut u8, length: usize) {
    if length == 0 {
        return;
    }
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "2:",
            ".set .Lpart, 0",
            ".rept {block} / 64",
            "vmovdqu ymm0, [{from} + {at} + .Lpart]",
            "vmovdqu ymm1, [{from} + {at} + .Lpart + 32]",
            "vmovdqu [{to} + {at} + .Lpart], ymm0",
            "vmovdqu [{to} + {at} + .Lpart + 32], ymm1",
            ".set .Lpart, .Lpart + 64",
            ".endr",
            "add {at}, {block}",
            "jnz 2b",
            "vzeroupper",
            // The addresses are those of the ends, and the index counts up to 0.
            from = in(reg) from.add(length),
            to = in(reg) to.add(length),
            at = inout(reg) length.wrapping_neg() => _,
            block = const BLOCK,
            out("ymm0") _, out("ymm1") _,
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied() {
        let from: Vec<u8> = (0..20_001u32).map(|at| (at * 7 + (at >> 8)) as u8).collect();
        for length in [0, 1, 31, 511, 2047, 2048, 2049, 4096, 8191, 8192, 8193, 8999, 20_000] {
            let mut to = vec![0; length + 1];
            // SAFETY: both buffers are long enough.
            unsafe { copy(from[1..].as_ptr(), to.as_mut_ptr(), length) };
            assert_eq!((&to[..length], to[length]), (&from[1..][..length], 0));
        }
    }
}
