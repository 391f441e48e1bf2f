//! How this process reaches a PCI function: config space, BARs, memory for the card, interrupts, reset.
//!
//! One trait, [`Bus`], stands for every way; the rooms above do not know which they have.

mod address;
mod block;
pub mod counts;
mod error;
mod ready;
pub mod sysfs;
pub mod vfio;
pub mod vfio_user;

pub use address::{BadAddress, PciAddress};
pub use block::Mapped;
pub(crate) use block::{Block, Direct};
pub use error::BusError;
pub(crate) use ready::readable;

use crate::memory::Mapper;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vmm_sys_util::eventfd::EventFd;

/// PCI command register, and its bits for memory space and bus mastering.
pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const MEMORY_SPACE: u32 = 1 << 1;
pub(crate) const BUS_MASTER: u32 = 1 << 2;

/// Number of a PCI function's BARs.
pub const BARS: usize = 6;

/// A BAR: 32-bit registers at offsets in bytes.
///
/// # Safety
///
/// What [`mapped`](Self::mapped) returns stays mapped, at the same address, as long as the BAR lives. What is read is what the
/// card's registers say: memory is released when a channel's say that its engine is idle.
pub unsafe trait Bar: Send + Sync + fmt::Debug {
    /// Bytes.
    fn size(&self) -> u64;

    /// Reads the register at `offset`: a round trip to the card.
    ///
    /// All ones may be the register's value or mean that the card is gone; the caller checks.
    ///
    /// # Errors
    ///
    /// The offset is no multiple of 4 or outside; the link failed.
    fn read32(&self, offset: u64) -> Result<u32, BusError>;

    /// Writes the register at `offset`. Posted: it returns before the card has seen it, in order with other writes.
    ///
    /// # Errors
    ///
    /// The offset is no multiple of 4 or outside; the link failed.
    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError>;

    /// Where the registers are mapped in this process, if they are. Channels then access them there.
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
}

/// What a bus is and offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The way to the card, such as "vfio-user".
    pub kind: &'static str,
    /// Which card: a socket's path, a PCI address.
    pub location: String,
    /// Bytes of each BAR, 0 where there is none.
    pub bars: [u64; BARS],
    /// MSI-X vectors.
    pub vectors: u32,
    /// Whether the function can be reset.
    pub resettable: bool,
    /// Whether a register access is a system call rather than a load or store.
    pub registers_by_system_call: bool,
    /// A bit for each size of pages that memory can be mapped in; 0 where addresses are physical.
    pub page_sizes: u64,
    /// Bits of the addresses that the card may use.
    pub iova_bits: u32,
    /// The card's NUMA node, where the system says.
    pub node: Option<u32>,
    /// What is not as it was asked for or as it could be, a sentence each.
    pub notes: Vec<String>,
}

/// A PCI function that this process has for itself.
pub trait Bus: Mapper {
    /// What it is and offers.
    fn description(&self) -> &Description;

    /// A BAR.
    ///
    /// # Errors
    ///
    /// [`BusError::NoBar`].
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

    /// Resets the function: every register as after power-up.
    ///
    /// # Errors
    ///
    /// [`BusError::Refused`] where there is no reset.
    fn reset(&self) -> Result<(), BusError>;

    /// Lets MSI-X vectors from `first` on signal these events; none turns MSI-X off.
    ///
    /// # Errors
    ///
    /// [`BusError`].
    fn set_interrupts(&self, first: u32, events: &[&EventFd]) -> Result<(), BusError>;

    /// Set once the kernel wants the card back, because it is being unbound or removed. It waits until the bus is closed.
    fn recall(&self) -> Arc<AtomicBool> {
        Arc::default()
    }
}

/// Checks an offset against a BAR.
#[inline]
pub(crate) fn check_register(size: u64, offset: u64) -> Result<(), BusError> {
    if offset.is_multiple_of(4) && offset.checked_add(4).is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(BusError::BadOffset { offset, size })
}

/// Checks an offset in config space.
pub(crate) fn check_config(offset: u16, width: u8) -> Result<(), BusError> {
    let aligned = matches!(width, 1 | 2 | 4) && offset.is_multiple_of(width.into());
    if aligned && offset < 4096 {
        return Ok(());
    }
    Err(BusError::BadOffset { offset: offset.into(), size: 4096 })
}
