//! The function's PCI Express capability.

use super::CardError;
use crate::bus::Bus;

/// First capability, in config space; and the bit of the status register that says there is one.
const CAPABILITIES: u16 = 0x34;
const STATUS: u16 = 0x06;
const HAS_CAPABILITIES: u32 = 1 << 4;
/// Identifier of the PCI Express capability, and its device control register.
const PCI_EXPRESS: u32 = 0x10;
const DEVICE_CONTROL: u16 = 8;
/// Maximum read request: 128 bytes times two to this.
const READ_REQUEST: u32 = 7 << 12;
/// 512 bytes.
const WANTED: u32 = 2 << 12;

/// Lets the card read 512 bytes of host memory with one request, where firmware left it at less: the vendor's driver does
/// the same (XIL `probe_one`: `pcie_set_readrq`). The kernel passes it on, but not below the maximum payload.
pub(super) fn raise_read_request(bus: &dyn Bus) -> Result<(), CardError> {
    let Some(capability) = find(bus)? else { return Ok(()) };
    let control = bus.config_read(capability + DEVICE_CONTROL, 2)?;
    if control & READ_REQUEST < WANTED {
        bus.config_write(capability + DEVICE_CONTROL, 2, control & !READ_REQUEST | WANTED)?;
    }
    Ok(())
}

/// Where the capability starts.
fn find(bus: &dyn Bus) -> Result<Option<u16>, CardError> {
    if bus.config_read(STATUS, 2)? & HAS_CAPABILITIES == 0 {
        return Ok(None);
    }
    let mut at = bus.config_read(CAPABILITIES, 1)? as u16 & 0xfc;
    // There is room for 48 capabilities, so a list that is longer runs in a circle.
    for _ in 0..48 {
        if at < 0x40 {
            break;
        }
        let header = bus.config_read(at, 2)?;
        if header & 0xff == PCI_EXPRESS {
            return Ok(Some(at));
        }
        at = (header >> 8) as u16 & 0xfc;
    }
    Ok(None)
}
