//! The FIFOs between the AXI windows and the core, and the checksum of [`Core::Checksum`](super::Core::Checksum).

use vm_memory::VolatileSlice;
use xdma_regs::msm::BEAT;

/// A FIFO that is written in whole beats and read in elements.
pub(super) struct Fifo {
    data: Box<[u8]>,
    /// The offset of the oldest byte in `data`.
    head: usize,
    /// The number of bytes held.
    len: usize,
    /// The size of an element in bytes.
    element: usize,
    /// The total number of elements written, without padding that was dropped.
    pub(super) pushed: u64,
    /// The total number of elements consumed.
    pub(super) consumed: u64,
    /// The maximum number of elements ever held.
    pub(super) high_water: usize,
    /// The total number of bytes written, including padding: the position used by [`super::BitFlip`].
    position: u64,
}

impl Fifo {
    /// Creates a FIFO for `depth` elements of `element` bytes, rounded up to whole beats, at least one.
    pub(super) fn new(depth: usize, element: usize) -> Self {
        let bytes = (depth.max(1) * element).next_multiple_of(BEAT);
        Self {
            data: vec![0; bytes].into_boxed_slice(),
            head: 0,
            len: 0,
            element,
            pushed: 0,
            consumed: 0,
            high_water: 0,
            position: 0,
        }
    }

    /// Returns the capacity in elements.
    pub(super) fn depth(&self) -> usize {
        self.data.len() / self.element
    }

    /// Returns the number of elements held.
    pub(super) fn elements(&self) -> usize {
        self.len / self.element
    }

    /// Returns the number of bytes that fit now, in whole beats.
    pub(super) fn room(&self) -> usize {
        (self.data.len() - self.len) / BEAT * BEAT
    }

    /// Returns the number of elements that fit now.
    pub(super) fn free(&self) -> usize {
        self.room() / self.element
    }

    /// Returns the number of elements in `bytes`, if the FIFO is empty and all of them fit.
    pub(super) fn passes_through(&self, bytes: usize) -> Option<u64> {
        let whole = bytes.is_multiple_of(self.element) && bytes <= self.data.len();
        (self.len == 0 && whole).then_some((bytes / self.element) as u64)
    }

    /// Copies `count` bytes (whole beats, at most [`Self::room`]) of `data` from `offset`. `flip` is a byte position in the
    /// FIFO's total input, and the bits to flip in that byte.
    pub(super) fn push(
        &mut self,
        data: &VolatileSlice,
        offset: usize,
        count: usize,
        flip: Option<(u64, u8)>,
    ) {
        debug_assert!(count.is_multiple_of(BEAT) && count <= self.room());
        if self.len == 0 {
            // Starting over at the front of an empty FIFO keeps the bytes in the cache.
            self.head = 0;
        }
        let start = (self.head + self.len) % self.data.len();
        let first = count.min(self.data.len() - start);
        copy(data, offset, &mut self.data[start..start + first]);
        copy(data, offset + first, &mut self.data[..count - first]);
        if let Some((byte, mask)) = flip
            && let Some(at) = byte.checked_sub(self.position).filter(|at| *at < count as u64)
        {
            self.data[(start + at as usize) % self.data.len()] ^= mask;
        }
        self.position += count as u64;
        self.len += count;
        self.pushed += (count / self.element) as u64;
        self.high_water = self.high_water.max(self.elements());
    }

    /// Removes the oldest `count` elements (no more than it holds) and passes them to `sink` in one or two pieces.
    pub(super) fn pop(&mut self, count: usize, mut sink: impl FnMut(&[u8])) {
        if count == 0 {
            return;
        }
        let bytes = count * self.element;
        debug_assert!(bytes <= self.len);
        let first = bytes.min(self.data.len() - self.head);
        sink(&self.data[self.head..self.head + first]);
        if bytes > first {
            sink(&self.data[..bytes - first]);
        }
        self.skip(bytes);
        self.consumed += count as u64;
    }

    /// Drops the rest of a partially consumed beat.
    pub(super) fn drop_padding(&mut self) {
        let rest = self.len % BEAT;
        self.skip(rest);
        self.pushed -= (rest / self.element) as u64;
    }

    /// Drops everything.
    pub(super) fn flush(&mut self) {
        self.skip(self.len);
    }

    fn skip(&mut self, bytes: usize) {
        self.head = (self.head + bytes) % self.data.len();
        self.len -= bytes;
    }
}

fn copy(data: &VolatileSlice, offset: usize, to: &mut [u8]) {
    if let Ok(from) = data.subslice(offset, to.len()) {
        from.copy_to(to);
    }
}

/// An order-dependent checksum of a stream of 32-byte granules. It is cheap enough not to limit the bandwidth under test, and it
/// is not cryptographic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    sums: [u64; 4],
    sums_of_sums: [u64; 4],
}

impl Checksum {
    /// The size of a granule in bytes.
    pub const GRANULE: usize = 32;

    /// Returns the checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> [u8; 32] {
        let mut checksum = Self::default();
        checksum.update(bytes);
        checksum.finish()
    }

    /// Adds `bytes`, whose length should be a multiple of 32. Bytes beyond the last multiple are ignored.
    pub fn update(&mut self, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor supports AVX2, which is the only requirement of the function.
            return unsafe { self.add_with_avx2(bytes) };
        }
        self.add(bytes);
    }

    /// Adds `bytes` using AVX2, with one granule per register.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_with_avx2(&mut self, bytes: &[u8]) {
        self.add(bytes);
    }

    /// The loops over the lanes are separate so that the compiler vectorizes them.
    #[inline(always)]
    fn add(&mut self, bytes: &[u8]) {
        let (mut sums, mut sums_of_sums) = (self.sums, self.sums_of_sums);
        for granule in bytes.as_chunks::<{ Self::GRANULE }>().0 {
            let (words, _) = granule.as_chunks();
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
            for (sum_of_sums, sum) in sums_of_sums.iter_mut().zip(sums) {
                *sum_of_sums = sum_of_sums.wrapping_add(sum);
            }
        }
        (self.sums, self.sums_of_sums) = (sums, sums_of_sums);
    }

    /// Returns the checksum so far.
    pub fn finish(&self) -> [u8; 32] {
        let mut out = [0; 32];
        for (lane, to) in out.chunks_exact_mut(8).enumerate() {
            // A different odd multiplier for each lane makes exchanged lanes detectable.
            let odd = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(2 * lane as u64 + 1);
            let word = self.sums[lane].wrapping_mul(odd) ^ self.sums_of_sums[lane].rotate_left(32);
            to.copy_from_slice(&word.to_le_bytes());
        }
        out
    }
}
