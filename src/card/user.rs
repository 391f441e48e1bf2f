//! Registers of the user logic.

use crate::bus::{Bar, BusError};
use std::sync::Arc;

/// The user logic's registers: 32-bit registers, addressed by byte offset. Offsets are checked against the size of the BAR.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use xdma::card::CardOptions;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let user = card.user()?;
/// user.write(0x10, 7)?;
/// assert_eq!(user.read(0x10)?, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct UserBar {
    pub(super) bar: Arc<dyn Bar>,
}

impl UserBar {
    /// Returns the size of the BAR in bytes.
    pub fn size(&self) -> u64 {
        self.bar.size()
    }

    /// Reads a register. This is a round trip to the card. All ones may mean that the card is gone.
    ///
    /// # Errors
    ///
    /// The offset is unaligned or outside the BAR, or the link failed.
    pub fn read(&self, offset: u32) -> Result<u32, BusError> {
        self.bar.read32(offset.into())
    }

    /// Writes a register. The write is posted: it returns before the card has received it.
    ///
    /// # Errors
    ///
    /// The offset is unaligned or outside the BAR, or the link failed.
    pub fn write(&self, offset: u32, value: u32) -> Result<(), BusError> {
        self.bar.write32(offset.into(), value)
    }
}
