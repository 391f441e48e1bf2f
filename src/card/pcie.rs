//! The function's PCI Express capability.

use super::CardError;
use super::capability::{self, PCI_EXPRESS};
use crate::bus::Bus;
use std::fmt;

/// Offset of the device control register in the PCI Express capability.
const DEVICE_CONTROL: u16 = 8;
/// Offsets of its link capabilities and link status registers. Both have the speed in bits 3:0 and the width in bits 9:4.
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_STATUS: u16 = 0x12;
/// The maximum read request size field of the device control register: 128 bytes, shifted left by the field's value.
const READ_REQUEST: u32 = 7 << 12;
/// A maximum read request size of 512 bytes.
const READ_REQUEST_512: u32 = 2 << 12;

/// The device control register, which holds the maximum read request size, with its original value.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadRequest {
    register: u16,
    control: u32,
}

impl ReadRequest {
    /// Reads the register. `None` if the function does not have it.
    pub fn find(bus: &dyn Bus) -> Result<Option<Self>, CardError> {
        let Some(capability) = capability::find(bus, PCI_EXPRESS)? else { return Ok(None) };
        let register = capability + DEVICE_CONTROL;
        Ok(Some(Self { register, control: bus.config_read(register, 2)? }))
    }

    /// Raises the maximum read request size to 512 bytes if firmware left it lower, as the vendor's driver does (XIL `probe_one`:
    /// `pcie_set_readrq`). The kernel applies the write, but keeps the size at or above the maximum payload size.
    pub fn raise(self, bus: &dyn Bus) -> Result<(), CardError> {
        if self.control & READ_REQUEST < READ_REQUEST_512 {
            bus.config_write(self.register, 2, self.control & !READ_REQUEST | READ_REQUEST_512)?;
        }
        Ok(())
    }

    /// Restores the original value.
    pub fn restore(self, bus: &dyn Bus) -> Result<(), CardError> {
        if self.control & READ_REQUEST < READ_REQUEST_512 {
            bus.config_write(self.register, 2, self.control)?;
        }
        Ok(())
    }
}

/// Speed and width of a PCI Express link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Generation: 1 is 2.5 GT/s per lane, 3 is 8 GT/s.
    pub generation: u32,
    /// Number of lanes.
    pub lanes: u32,
}

impl Link {
    /// Decodes a link capabilities or link status register.
    const fn decode(register: u32) -> Self {
        Self { generation: register & 0xf, lanes: register >> 4 & 0x3f }
    }

    /// Returns the current state of the link and the maximum that the card supports; `None` if the function has no PCI Express
    /// capability.
    pub(super) fn read(bus: &dyn Bus) -> Result<Option<(Self, Self)>, CardError> {
        let Some(capability) = capability::find(bus, PCI_EXPRESS)? else { return Ok(None) };
        let current = bus.config_read(capability + LINK_STATUS, 2)?;
        let maximum = bus.config_read(capability + LINK_CAPABILITIES, 4)?;
        Ok(Some((Self::decode(current), Self::decode(maximum))))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.generation, self.lanes) {
            (0, _) | (_, 0) => f.write_str("not trained"),
            (generation, lanes) => write!(f, "Gen{generation} x{lanes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Bar, BusError, Description, InterruptKind};
    use crate::memory::{Access, Addressing, CallerMemory, Extent, Isolation, MapError, Mapper, MemoryRef};
    use std::sync::{Arc, Mutex};
    use vmm_sys_util::eventfd::EventFd;

    /// A bus with nothing but config space.
    struct Config(Mutex<[u8; 256]>);

    // SAFETY: nothing is ever mapped.
    unsafe impl Mapper for Config {
        fn addressing(&self) -> Addressing {
            Addressing::Physical
        }

        fn caller_memory(&self) -> CallerMemory {
            CallerMemory::Pinned
        }

        unsafe fn map(&self, _: MemoryRef<'_>, _: u64, _: Access) -> Result<Vec<Extent>, MapError> {
            Err(MapError::NotShareable)
        }

        fn unmap(&self, _: u64, _: u64) -> Result<(), MapError> {
            Ok(())
        }

        fn isolation(&self) -> Isolation {
            Isolation::Iommu
        }
    }

    impl Bus for Config {
        fn description(&self) -> &Description {
            unreachable!("not used by these tests")
        }

        fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
            Err(BusError::NoBar(index))
        }

        fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
            let (space, mut word) = (self.0.lock().unwrap(), [0; 4]);
            word[..width.into()].copy_from_slice(&space[offset.into()..(offset + u16::from(width)).into()]);
            Ok(u32::from_le_bytes(word))
        }

        fn config_write(&self, offset: u16, width: u8, value: u32) -> Result<(), BusError> {
            let to = usize::from(offset)..usize::from(offset) + usize::from(width);
            self.0.lock().unwrap()[to].copy_from_slice(&value.to_le_bytes()[..width.into()]);
            Ok(())
        }

        fn reset(&self) -> Result<(), BusError> {
            Ok(())
        }

        fn set_interrupts(&self, _: InterruptKind, _: &[&EventFd]) -> Result<(), BusError> {
            Ok(())
        }

        fn unmask_intx(&self) -> Result<(), BusError> {
            Ok(())
        }
    }

    /// Creates a config space with power management at 0x40, and PCI Express at 0x70 with this device control register.
    fn config(control: u16) -> Config {
        let mut space = [0; 256];
        (space[6], space[0x34]) = (0x10, 0x40);
        space[0x40..0x42].copy_from_slice(&[1, 0x70]);
        space[0x70] = 0x10;
        space[0x78..0x7a].copy_from_slice(&control.to_le_bytes());
        Config(Mutex::new(space))
    }

    #[test]
    fn only_small_read_request_sizes_are_raised() {
        for (before, after) in [(0x0810, 0x2810), (0x1007, 0x2007), (0x2810, 0x2810), (0x5810, 0x5810)] {
            let bus = config(before);
            let found = ReadRequest::find(&bus).unwrap().unwrap();
            found.raise(&bus).unwrap();
            assert_eq!(bus.config_read(0x78, 2).unwrap(), after, "{before:#x}");
            found.restore(&bus).unwrap();
            assert_eq!(bus.config_read(0x78, 2).unwrap(), u32::from(before));
        }
    }

    #[test]
    fn a_missing_capability_and_a_circular_list_are_tolerated() {
        let bus = config(0);
        bus.config_write(6, 1, 0).unwrap();
        let circular = config(0);
        circular.config_write(0x41, 1, 0x40).unwrap();
        assert!([bus, circular].iter().all(|bus| ReadRequest::find(bus).unwrap().is_none()));
    }

    #[test]
    fn links_are_decoded() {
        // Link status of a Gen3 x16 card that uses the slot's clock, as lspci shows it.
        assert_eq!(Link::decode(0x1103), Link { generation: 3, lanes: 16 });
        assert_eq!(Link::decode(0x0047_4843).to_string(), "Gen3 x4");
    }
}
