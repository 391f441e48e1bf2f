//! The list of capabilities in config space (PCI Local Bus 3.0, "Capabilities List").

use crate::bus::{Bus, BusError};

/// Message-signalled interrupts with a table in a BAR.
pub(super) const MSIX: u8 = 0x11;
/// PCI Express.
pub(super) const PCI_EXPRESS: u8 = 0x10;

/// The status register, and its bit that indicates a capability list.
const STATUS: u16 = 0x06;
const HAS_CAPABILITIES: u32 = 1 << 4;
/// The pointer to the first capability.
const FIRST: u16 = 0x34;
/// Offset of the first byte behind the header of config space.
const HEADER_END: u16 = 0x40;
/// Maximum number of capabilities in 256 bytes. A longer list is circular.
const MAX_CAPABILITIES: usize = 48;

/// Returns the offset of a capability.
pub(super) fn find(bus: &dyn Bus, id: u8) -> Result<Option<u16>, BusError> {
    if bus.config_read(STATUS, 2)? & HAS_CAPABILITIES == 0 {
        return Ok(None);
    }
    let mut at = bus.config_read(FIRST, 1)? as u16 & 0xfc;
    for _ in 0..MAX_CAPABILITIES {
        if at < HEADER_END {
            break;
        }
        let header = bus.config_read(at, 2)?;
        if header & 0xff == u32::from(id) {
            return Ok(Some(at));
        }
        at = (header >> 8) as u16 & 0xfc;
    }
    Ok(None)
}
