//! Access to a PCI function: config space, BARs, DMA mappings, interrupts and reset.
//!
//! The [`Bus`] trait abstracts over the transport; the layers above it do not depend on a particular one.

mod address;
mod block;
pub mod counts;
mod error;
mod ready;
mod resource;
pub mod sysfs;
mod tail;
pub mod vfio;
pub mod vfio_user;

pub use address::{BadAddress, PciAddress};
pub use block::Mapped;
pub(crate) use block::{Block, Direct};
pub use error::BusError;
pub(crate) use ready::readable;
pub use resource::Resource;
pub(crate) use tail::Tail;

use crate::memory::Mapper;
use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vmm_sys_util::eventfd::EventFd;

/// Offset of the PCI command register, and its Memory Space and Bus Master enable bits.
pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const MEMORY_SPACE: u32 = 1 << 1;
pub(crate) const BUS_MASTER: u32 = 1 << 2;

/// Number of BARs of a PCI function.
pub const BARS: usize = 6;

/// A BAR: 32-bit registers, addressed by byte offset.
///
/// # Safety
///
/// The mapping that [`mapped`](Self::mapped) returns stays valid, at the same address, for the lifetime of the BAR. Reads return
/// the actual register values: the driver releases memory when a status register reports that its engine is idle.
pub unsafe trait Bar: Send + Sync + fmt::Debug {
    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Reads the register at `offset`. This is a round trip to the card.
    ///
    /// All ones may be the register's value or mean that the card is gone; the caller must check.
    ///
    /// # Errors
    ///
    /// The offset is not a multiple of 4 or is outside the BAR, or the link failed.
    fn read32(&self, offset: u64) -> Result<u32, BusError>;

    /// Writes the register at `offset`. The write is posted: it returns before the card has received it, and stays in order with
    /// other writes.
    ///
    /// # Errors
    ///
    /// The offset is not a multiple of 4 or is outside the BAR, or the link failed.
    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError>;

    /// Reads `width` bytes at `offset`: 1, 2, 4 or 8, naturally aligned. The default implementation supports only 4.
    ///
    /// # Errors
    ///
    /// As [`read32`](Self::read32).
    fn read(&self, offset: u64, width: u8) -> Result<u64, BusError> {
        if width == 4 {
            self.read32(offset).map(u64::from)
        } else {
            Err(BusError::BadOffset { offset, size: self.size() })
        }
    }

    /// Writes the lowest `width` bytes of `value` at `offset`: 1, 2, 4 or 8, naturally aligned. The default implementation supports
    /// only 4.
    ///
    /// # Errors
    ///
    /// As [`write32`](Self::write32).
    fn write(&self, offset: u64, width: u8, value: u64) -> Result<(), BusError> {
        if width == 4 {
            self.write32(offset, value as u32)
        } else {
            Err(BusError::BadOffset { offset, size: self.size() })
        }
    }

    /// Returns the mapping of the registers into this process, if there is one. Channels then access the registers through it.
    ///
    /// ```compile_fail,E0505
    /// # use std::sync::Arc;
    /// # use xdma::bus::Bar;
    /// fn outlive(bar: Arc<dyn Bar>) {
    ///     let mapped = bar.mapped();
    ///     drop(bar);
    ///     println!("{mapped:?}");
    /// }
    /// ```
    fn mapped(&self) -> Option<Mapped<'_>> {
        None
    }

    /// Returns a file in which other processes can map the BAR, if the bus has one. A process that has it can reach all of the
    /// function.
    fn file(&self) -> Option<BarFile> {
        None
    }
}

/// A file that contains a BAR.
#[derive(Debug)]
pub struct BarFile {
    /// The file.
    pub file: File,
    /// Start of the BAR in the file.
    pub offset: u64,
    /// Number of bytes that can be mapped, from the start of the BAR on.
    pub bytes: u64,
}

/// The kinds of interrupts of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptKind {
    /// The legacy interrupt line. It is masked when it fires.
    Intx,
    /// Messages with up to 32 vectors, configured in config space.
    Msi,
    /// Messages with up to 2048 vectors, configured in a table in a BAR.
    Msix,
}

impl fmt::Display for InterruptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intx => "INTx",
            Self::Msi => "MSI",
            Self::Msix => "MSI-X",
        })
    }
}

/// A bus and its capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The transport, such as "vfio-user".
    pub kind: &'static str,
    /// The card's location: the path of a socket, or a PCI address.
    pub location: String,
    /// Size of each BAR in bytes; 0 if the BAR does not exist.
    pub bars: [u64; BARS],
    /// Number of MSI-X vectors.
    pub vectors: u32,
    /// Number of MSI vectors.
    pub msi_vectors: u32,
    /// Whether the function has a legacy interrupt line.
    pub intx: bool,
    /// Whether the function can be reset.
    pub resettable: bool,
    /// Whether a register access is a system call rather than a load or a store.
    pub registers_by_system_call: bool,
    /// Bit mask of the page sizes in which memory can be mapped; 0 if addresses are physical.
    pub page_sizes: u64,
    /// Width in bits of the addresses that the card may use.
    pub iova_bits: u32,
    /// The card's NUMA node, if the system reports one.
    pub node: Option<u32>,
    /// Fallbacks and limitations, one sentence each.
    pub notes: Vec<String>,
}

/// A PCI function that is owned by this process.
pub trait Bus: Mapper {
    /// Returns the description of the bus and its capabilities.
    fn description(&self) -> &Description;

    /// Returns BAR `index`.
    ///
    /// # Errors
    ///
    /// [`BusError::NoBar`] if the function does not have it.
    fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError>;

    /// Reads `width` bytes (1, 2 or 4) of config space at `offset`.
    ///
    /// # Errors
    ///
    /// [`BusError`].
    fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError>;

    /// Writes `width` bytes (1, 2 or 4) of config space at `offset`.
    ///
    /// # Errors
    ///
    /// [`BusError`].
    fn config_write(&self, offset: u16, width: u8, value: u32) -> Result<(), BusError>;

    /// Resets the function, which returns every register to its value after power-up.
    ///
    /// # Errors
    ///
    /// [`BusError::Refused`] if the function has no reset.
    fn reset(&self) -> Result<(), BusError>;

    /// Makes vectors 0, 1, ... of this kind signal one of `events` each. An empty slice disables this kind of interrupt.
    ///
    /// # Errors
    ///
    /// [`BusError`].
    fn set_interrupts(&self, kind: InterruptKind, events: &[&EventFd]) -> Result<(), BusError>;

    /// Unmasks the legacy interrupt line. If the function still asserts it, it fires again.
    ///
    /// # Errors
    ///
    /// [`BusError`].
    fn unmask_intx(&self) -> Result<(), BusError>;

    /// Returns a flag that is set when the kernel asks for the card to be released, because it is being unbound or removed. The
    /// kernel then waits until the bus is closed.
    fn recall(&self) -> Arc<AtomicBool> {
        Arc::default()
    }
}

/// Checks that `offset` is aligned and inside a BAR of `size` bytes.
#[inline]
pub(crate) fn check_register(size: u64, offset: u64) -> Result<(), BusError> {
    if offset.is_multiple_of(4) && offset.checked_add(4).is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(BusError::BadOffset { offset, size })
}

/// Checks that an access of `width` bytes at `offset` is naturally aligned and inside a BAR of `size` bytes.
pub(crate) fn check_access(size: u64, offset: u64, width: u8) -> Result<(), BusError> {
    let aligned = matches!(width, 1 | 2 | 4 | 8) && offset.is_multiple_of(width.into());
    if aligned && offset.checked_add(width.into()).is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(BusError::BadOffset { offset, size })
}

/// Checks that an access of `width` bytes at `offset` is aligned and inside config space.
pub(crate) fn check_config(offset: u16, width: u8) -> Result<(), BusError> {
    let aligned = matches!(width, 1 | 2 | 4) && offset.is_multiple_of(width.into());
    if aligned && offset < 4096 {
        return Ok(());
    }
    Err(BusError::BadOffset { offset: offset.into(), size: 4096 })
}
