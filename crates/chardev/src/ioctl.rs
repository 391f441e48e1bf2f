//! The ioctls of the device files (`cdev_sgdma.h` and `cdev_ctrl.h` of the kernel module), as numbers for x86-64.

/// `IOCTL_XDMA_ADDRMODE_SET`: the argument points to an `int`; other than 0 selects one fixed card address.
pub const ADDRMODE_SET: u32 = 0x4004_7104;
/// `IOCTL_XDMA_ADDRMODE_GET`: stores 0 or 1 in an `int`.
pub const ADDRMODE_GET: u32 = 0x8004_7105;
/// `IOCTL_XDMA_ALIGN_GET`: stores the alignment in bytes in an `int`.
pub const ALIGN_GET: u32 = 0x8004_7106;
/// `XDMA_IOCINFO`: fills in a structure of 40 bytes.
pub const INFO: u32 = 0xc028_7801;
/// The magic number that the structure of [`INFO`] contains on entry.
pub const INFO_MAGIC: u32 = 0x586c_0c6c;
/// Size of the structure of [`INFO`] in bytes.
pub const INFO_BYTES: usize = 40;
/// The version that [`INFO`] reports: that of the kernel module whose semantics this crate has, 2025.2.0.
pub const DRIVER_VERSION: u32 = 2025 * 1000 + 200;
