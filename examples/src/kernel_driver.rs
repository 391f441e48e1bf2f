//! The cost of the same transfers through the vendor's kernel module, `xdma.ko`, calculated from its source code.
//!
//! A `write()` on `/dev/xdma0_h2c_0` pins every 4 KiB page of the buffer and creates one descriptor per page, without merging
//! adjacent pages. The list is split after 2048 descriptors, and where the ring of 2048 descriptors wraps. The module starts the
//! engine for each part and waits for it (dma_ip_drivers, `cdev_sgdma.c` and `libxdma.c`: `char_sgdma_map_user_buf_to_sgl`,
//! `xdma_xfer_submit`).

use std::ops::AddAssign;

const PAGE: usize = 4096;
/// Descriptors in the module's ring.
const RING: usize = 2048;
/// Register writes and reads of one start with interrupts.
const MMIO_INTERRUPT: [u64; 2] = [7, 5];
/// Register writes and reads of one start in poll mode.
const MMIO_POLLED: [u64; 2] = [5, 2];

/// The cost of a number of `write()` calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KernelCost {
    /// System calls.
    pub calls: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Pages pinned, mapped for DMA, and released again.
    pub pinned_pages: u64,
    /// Descriptors, each of up to 4 KiB.
    pub descriptors: u64,
    /// Number of times that the engine was started and waited for.
    pub starts: u64,
}

impl KernelCost {
    /// Returns the number of register writes and reads with interrupts.
    pub fn mmio_interrupt(&self) -> [u64; 2] {
        MMIO_INTERRUPT.map(|each| each * self.starts)
    }

    /// Returns the number of register writes and reads in poll mode.
    pub fn mmio_polled(&self) -> [u64; 2] {
        MMIO_POLLED.map(|each| each * self.starts)
    }
}

impl AddAssign for KernelCost {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.bytes += other.bytes;
        self.pinned_pages += other.pinned_pages;
        self.descriptors += other.descriptors;
        self.starts += other.starts;
    }
}

/// One channel of the kernel module, with its position in the ring.
#[derive(Debug, Default)]
pub struct KernelChannel {
    position: usize,
}

impl KernelChannel {
    /// Returns the cost of one `write()` of `bytes` from a buffer that starts `offset` bytes into a page.
    pub fn write(&mut self, offset: usize, bytes: usize) -> KernelCost {
        if bytes == 0 {
            return KernelCost { calls: 1, ..KernelCost::default() };
        }
        let pages = (offset % PAGE + bytes).div_ceil(PAGE);
        let mut left = pages;
        let mut starts = 0;
        while left > 0 {
            let part = left.min(RING - self.position);
            self.position = (self.position + part) % RING;
            left -= part;
            starts += 1;
        }
        let pages = pages as u64;
        KernelCost { calls: 1, bytes: bytes as u64, pinned_pages: pages, descriptors: pages, starts }
    }
}

/// Returns the cost of sending an MSM's data as provers do it: `chunk` scalars, then their points, from two buffers that start
/// `offset` bytes into a page.
pub fn msm_feed(pairs: usize, chunk: usize, offset: usize) -> KernelCost {
    let mut channel = KernelChannel::default();
    let mut cost = KernelCost::default();
    let chunk = chunk.max(1);
    for first in (0..pairs).step_by(chunk) {
        let count = chunk.min(pairs - first);
        for size in [32, 64] {
            cost += channel.write(offset + first * size, count * size);
        }
    }
    cost
}
