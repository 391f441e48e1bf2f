//! What the same data costs through the vendor's kernel module, `xdma.ko`, by counting what its source does.
//!
//! A `write()` on `/dev/xdma0_h2c_0` pins every 4 KiB page under the buffer, makes one descriptor a page without merging
//! neighbours, and cuts the list at 2048 descriptors and wherever the ring of 2048 ends; each part is a start of its own
//! that is waited for (dma_ip_drivers, `cdev_sgdma.c` and `libxdma.c`: `char_sgdma_map_user_buf_to_sgl`, `xdma_xfer_submit`).

use std::ops::AddAssign;

const PAGE: usize = 4096;
/// Descriptors of the module's ring.
const RING: usize = 2048;
/// Register accesses of a start with an interrupt: writes, reads.
const MMIO_INTERRUPT: [u64; 2] = [7, 5];
/// The same in poll mode.
const MMIO_POLLED: [u64; 2] = [5, 2];

/// What a number of `write()` calls cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// System calls.
    pub calls: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Pages pinned, mapped for DMA, and released again.
    pub pinned_pages: u64,
    /// Descriptors of up to 4 KiB.
    pub descriptors: u64,
    /// Times the engine was started and waited for.
    pub starts: u64,
}

impl Cost {
    /// Register writes and reads with interrupts.
    pub fn mmio_interrupt(&self) -> [u64; 2] {
        MMIO_INTERRUPT.map(|each| each * self.starts)
    }

    /// Register writes and reads in poll mode.
    pub fn mmio_polled(&self) -> [u64; 2] {
        MMIO_POLLED.map(|each| each * self.starts)
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.bytes += other.bytes;
        self.pinned_pages += other.pinned_pages;
        self.descriptors += other.descriptors;
        self.starts += other.starts;
    }
}

/// One channel of the module, with the place in its ring.
#[derive(Debug, Default)]
pub struct Channel {
    ring: usize,
}

impl Channel {
    /// One `write()` of `bytes` from a buffer that starts `offset` bytes into a page.
    pub fn write(&mut self, offset: usize, bytes: usize) -> Cost {
        if bytes == 0 {
            return Cost { calls: 1, ..Cost::default() };
        }
        let pages = (offset % PAGE + bytes).div_ceil(PAGE);
        let mut left = pages;
        let mut starts = 0;
        while left > 0 {
            let part = left.min(RING - self.ring);
            self.ring = (self.ring + part) % RING;
            left -= part;
            starts += 1;
        }
        let pages = pages as u64;
        Cost { calls: 1, bytes: bytes as u64, pinned_pages: pages, descriptors: pages, starts }
    }
}

/// An MSM's feed as provers write it: `chunk` scalars, then their points, from two buffers that start `offset` bytes into
/// a page.
pub fn msm_feed(pairs: usize, chunk: usize, offset: usize) -> Cost {
    let mut channel = Channel::default();
    let mut cost = Cost::default();
    let chunk = chunk.max(1);
    for first in (0..pairs).step_by(chunk) {
        let count = chunk.min(pairs - first);
        for size in [32, 64] {
            cost += channel.write(offset + first * size, count * size);
        }
    }
    cost
}
