//! The ioctl numbers and structures of the device files on x86-64 (`cdev_sgdma.h` and `cdev_ctrl.h` of the kernel module).

/// `IOCTL_XDMA_PERF_START`: starts a performance run with the transfer size in a [`Perf`].
pub const PERF_START: u32 = 0x4008_7101;
/// `IOCTL_XDMA_PERF_STOP`: stops the run and stores its counters in a [`Perf`].
pub const PERF_STOP: u32 = 0x4008_7102;
/// `IOCTL_XDMA_PERF_GET`: stores the counters of the run in a [`Perf`].
pub const PERF_GET: u32 = 0x8008_7103;
/// `IOCTL_XDMA_ADDRMODE_SET`: the argument points to an `int`. A nonzero value selects a fixed card address.
pub const ADDRMODE_SET: u32 = 0x4004_7104;
/// `IOCTL_XDMA_ADDRMODE_GET`: stores 1 in an `int` if the card address is fixed, otherwise 0.
pub const ADDRMODE_GET: u32 = 0x8004_7105;
/// `IOCTL_XDMA_ALIGN_GET`: stores the required alignment in bytes in an `int`.
pub const ALIGN_GET: u32 = 0x8004_7106;
/// `IOCTL_XDMA_APERTURE_R`: reads like `pread`, with card addresses that wrap around within a window ([`Aperture`]).
pub const APERTURE_READ: u32 = 0x4008_7107;
/// `IOCTL_XDMA_APERTURE_W`: writes like `pwrite`, with card addresses that wrap around within a window.
pub const APERTURE_WRITE: u32 = 0x4008_7108;
/// `XDMA_IOCOFFLINE`: transfers fail until [`ONLINE`].
pub const OFFLINE: u32 = 0x7802;
/// `XDMA_IOCONLINE`: allows transfers again.
pub const ONLINE: u32 = 0x7803;
/// `XDMA_IOCINFO`: fills in a structure of 40 bytes.
pub const INFO: u32 = 0xc028_7801;
/// The magic number that the structure of [`INFO`] must contain on entry.
pub const INFO_MAGIC: u32 = 0x586c_0c6c;
/// Size of the structure of [`INFO`] in bytes.
pub const INFO_BYTES: usize = 40;
/// The version that [`INFO`] reports: 2025.2.0, the version of the kernel module whose semantics this crate implements.
pub const DRIVER_VERSION: u32 = 2025 * 1000 + 200;

/// The structure of [`PERF_START`], [`PERF_STOP`] and [`PERF_GET`] (`struct xdma_performance_ioctl`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perf {
    /// Version of the structure: 1.
    pub version: u32,
    /// Size of each transfer in bytes.
    pub transfer_size: u32,
    /// Number of completed transfers.
    pub iterations: u32,
    /// Clock cycles of the core during the run.
    pub clock: u64,
    /// Clock cycles in which data was transferred.
    pub data: u64,
}

impl Perf {
    /// Size in bytes.
    pub const BYTES: usize = 40;

    /// Decodes the structure.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [version, transfer_size, _, iterations] = [0, 4, 8, 12].map(|at| u32_at(bytes, at));
        Self { version, transfer_size, iterations, clock: u64_at(bytes, 16), data: u64_at(bytes, 24) }
    }

    /// Encodes the structure. The fields that the kernel module leaves at zero are zero.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (at, value) in [(0, self.version), (4, self.transfer_size), (12, self.iterations)] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[16..24].copy_from_slice(&self.clock.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.data.to_le_bytes());
        bytes
    }
}

/// The structure of [`APERTURE_READ`] and [`APERTURE_WRITE`] (`struct xdma_aperture_ioctl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aperture {
    /// Card address of the window.
    pub card: u64,
    /// Size of the window in bytes.
    pub size: u32,
    /// The caller's buffer.
    pub buffer: u64,
    /// Size of the buffer in bytes.
    pub length: u64,
}

impl Aperture {
    /// Size in bytes.
    pub const BYTES: usize = 48;
    /// Offset of the negative errno (4 bytes).
    pub const ERROR: usize = 32;
    /// Offset of the number of transferred bytes (8 bytes).
    pub const DONE: usize = 40;

    /// Decodes the structure.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [card, buffer, length] = [0, 16, 24].map(|at| u64_at(bytes, at));
        Self { card, size: u32_at(bytes, 8), buffer, length }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_layout_of_the_kernel_module() {
        let perf = Perf { version: 1, transfer_size: 4096, iterations: 3, clock: 1 << 40, data: 5 };
        let bytes = perf.to_bytes();
        assert_eq!((Perf::from_bytes(&bytes), bytes[21], bytes[12]), (perf, 1, 3));
        let mut bytes = [0; Aperture::BYTES];
        (bytes[0], bytes[8], bytes[16], bytes[24]) = (1, 2, 3, 4);
        assert_eq!(Aperture::from_bytes(&bytes), Aperture { card: 1, size: 2, buffer: 3, length: 4 });
    }
}
