//! PCI configuration space: identifiers, BARs with sizing, and the capabilities that drivers use.
//!
//! Values that a card's description does not state, such as PM without soft reset on D3hot, match the `lspci` output of real cards.

use xdma_card_file::{Bar, CardFile};

/// The size of the region in bytes. There are no extended capabilities after the first 256 bytes.
pub(super) const SIZE: u64 = 4096;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const PM: usize = 0x40;
const MSI: usize = 0x48;
const MSI_X: usize = 0x60;
const PCIE: usize = 0x70;
const DEVICE_CONTROL: usize = PCIE + 8;

const BUS_MASTER: u16 = 1 << 2;
const INTX_DISABLE: u16 = 1 << 10;
const INTX_STATUS: u8 = 1 << 3;
const INITIATE_RESET: u16 = 1 << 15;

/// The settings in configuration space that affect the rest of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effects {
    pub bus_master: bool,
    pub intx_disabled: bool,
    /// Sizes are encoded as in DevCtl.
    pub max_payload: u32,
    pub max_read_request: u32,
    pub msi_enabled: bool,
    pub msix_enabled: bool,
    pub msix_masked: bool,
    pub reset: bool,
}

/// The contents, and a mask of the writable bits.
#[derive(Clone, Debug)]
pub(super) struct ConfigSpace {
    bytes: [u8; 256],
    writable: [u8; 256],
    function_reset: bool,
}

impl ConfigSpace {
    pub fn new(card: &CardFile) -> Self {
        let mut space = Self { bytes: [0; 256], writable: [0; 256], function_reset: card.function.reset };
        space.header(card);
        space.capabilities(card);
        space
    }

    fn header(&mut self, card: &CardFile) {
        let function = &card.function;
        self.set16(0x00, function.vendor);
        self.set16(0x02, function.device);
        // Memory space, bus master, parity response, SERR, INTx disable.
        self.allow16(COMMAND, 0x0546);
        // A capability list is present.
        self.set16(STATUS, 0x0010);
        self.set32(0x08, function.class << 8 | u32::from(function.revision));
        self.allow16(0x0c, 0x00ff);
        for bar in &card.bars {
            self.base_address(bar);
        }
        self.set16(0x2c, function.subsystem_vendor);
        self.set16(0x2e, function.subsystem);
        self.bytes[0x34] = PM as u8;
        self.allow16(0x3c, 0x00ff);
        self.bytes[0x3d] = function.intx.pin();
    }

    /// Sets up a BAR for sizing: the address bits below its size always read 0.
    fn base_address(&mut self, bar: &Bar) {
        let at = 0x10 + 4 * bar.index;
        let mask = !(bar.size - 1);
        let wide = bar.width == 64;
        self.set32(at, u32::from(wide) << 2 | u32::from(bar.prefetchable) << 3);
        self.allow32(at, mask as u32);
        if wide {
            self.allow32(at + 4, (mask >> 32) as u32);
        }
    }

    fn capabilities(&mut self, card: &CardFile) {
        let function = &card.function;
        let msix_or_pcie = if function.msix.is_some() { MSI_X } else { PCIE };
        let msi_or_next = if function.msi_vectors > 0 { MSI } else { msix_or_pcie };
        self.capability(PM, 0x01, msi_or_next);
        self.set16(PM + 2, 0x0003);
        // No soft reset. The power state is writable.
        self.set16(PM + 4, 0x0008);
        self.allow16(PM + 4, 0x0003);

        if function.msi_vectors > 0 {
            self.capability(MSI, 0x05, msix_or_pcie);
            self.set16(MSI + 2, 0x0080 | (function.msi_vectors.ilog2() as u16) << 1);
            self.allow16(MSI + 2, 0x0071);
            self.allow32(MSI + 4, 0xffff_fffc);
            self.allow32(MSI + 8, 0xffff_ffff);
            self.allow16(MSI + 12, 0xffff);
        }
        if let Some(msix) = function.msix {
            self.capability(MSI_X, 0x11, PCIE);
            self.set16(MSI_X + 2, msix.vectors - 1);
            self.allow16(MSI_X + 2, 0xc000);
            self.set32(MSI_X + 4, msix.table | msix.bar as u32);
            self.set32(MSI_X + 8, msix.pending | msix.bar as u32);
        }
        self.capability(PCIE, 0x10, 0);
        self.set16(PCIE + 2, 0x0002);
        // Role-based error reporting, extended tags, the largest payload.
        let payload = function.max_payload.ilog2() - 7;
        self.set32(PCIE + 4, 0x0000_8020 | payload | u32::from(self.function_reset) << 28);
        // Relaxed ordering, no snoop, read requests of 512 bytes.
        self.set16(DEVICE_CONTROL, 0x2810);
        // Error reporting, relaxed ordering, payload, extended tags, no snoop, read request.
        self.allow16(DEVICE_CONTROL, 0x79ff);
        let link = function.link;
        self.set32(PCIE + 0x0c, u32::from(link.max_lanes) << 4 | u32::from(link.max_generation));
        self.set16(PCIE + 0x12, 0x1000 | u16::from(link.lanes) << 4 | u16::from(link.generation));
    }

    fn capability(&mut self, at: usize, id: u8, next: usize) {
        self.bytes[at] = id;
        self.bytes[at + 1] = next as u8;
    }

    fn set16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn set32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, at: usize, mask: u16) {
        self.writable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }

    fn allow32(&mut self, at: usize, mask: u32) {
        self.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
    }

    fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Reads bytes of any length and alignment. `intx` states whether the function asserts its legacy interrupt.
    pub fn read(&self, offset: u64, data: &mut [u8], intx: bool) {
        for (address, byte) in (offset as usize..).zip(data) {
            *byte = self.bytes.get(address).copied().unwrap_or(0);
            if address == STATUS && intx {
                *byte |= INTX_STATUS;
            }
        }
    }

    /// Writes any number of bytes, and returns the resulting settings.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Effects {
        let mut reset = false;
        for (address, &value) in (offset as usize..).zip(data) {
            let Some(&mask) = self.writable.get(address) else { break };
            self.bytes[address] = self.bytes[address] & !mask | value & mask;
            let initiate = address == DEVICE_CONTROL + 1 && u16::from(value) << 8 & INITIATE_RESET != 0;
            reset |= initiate && self.function_reset;
        }
        Effects { reset, ..self.effects() }
    }

    /// Returns the settings that affect the rest of the card.
    pub fn effects(&self) -> Effects {
        let (command, control) = (self.get16(COMMAND), u32::from(self.get16(DEVICE_CONTROL)));
        let msix = self.get16(MSI_X + 2);
        Effects {
            bus_master: command & BUS_MASTER != 0,
            intx_disabled: command & INTX_DISABLE != 0,
            max_payload: control >> 5 & 7,
            max_read_request: control >> 12 & 7,
            msi_enabled: self.get16(MSI + 2) & 1 != 0,
            msix_enabled: msix & 1 << 15 != 0,
            msix_masked: msix & 1 << 14 != 0,
            reset: false,
        }
    }

    /// Clears bus mastering, as the kernel does when a device is closed.
    pub fn clear_bus_master(&mut self) {
        self.bytes[COMMAND] &= !(BUS_MASTER as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read32(space: &ConfigSpace, offset: u64) -> u32 {
        let mut data = [0; 4];
        space.read(offset, &mut data, false);
        u32::from_le_bytes(data)
    }

    fn space(card: CardFile, function_reset: bool) -> ConfigSpace {
        let mut card = card;
        card.function.reset = function_reset;
        ConfigSpace::new(&card)
    }

    #[test]
    fn identifiers() {
        assert_eq!(read32(&space(CardFile::f1(), false), 0), 0xf001_1d0f);
        assert_eq!(read32(&space(CardFile::f1(), false), 0x2c), 0x1d51_fedc);
        assert_eq!(read32(&space(CardFile::alveo(), false), 0), 0x903f_10ee);
    }

    #[test]
    fn bars_report_their_size() {
        let mut f1 = space(CardFile::f1(), false);
        f1.write(0x10, &[0xff; 24]);
        let read: Vec<_> = (0x10..0x28).step_by(4).map(|offset| read32(&f1, offset)).collect();
        assert_eq!(read, [0xfe00_0000, 0xffe0_0000, 0xffff_000c, 0xffff_ffff, 0x0000_000c, 0xffff_ffe0]);
        let mut alveo = space(CardFile::alveo(), false);
        alveo.write(0x10, &[0xff; 24]);
        assert_eq!(
            [read32(&alveo, 0x10), read32(&alveo, 0x14), read32(&alveo, 0x18)],
            [0xfff0_0000, 0xffff_0000, 0]
        );
    }

    #[test]
    fn capabilities_form_a_list() {
        let space = space(CardFile::f1(), false);
        let mut found = Vec::new();
        let mut at = read32(&space, 0x34) as u8;
        while at != 0 {
            let head = read32(&space, at.into());
            found.push(head as u8);
            at = (head >> 8) as u8;
        }
        assert_eq!(found, [0x01, 0x05, 0x11, 0x10]);
        assert_eq!(read32(&space, 0x60) >> 16, 32);
        assert_eq!([read32(&space, 0x64), read32(&space, 0x68)], [0x8002, 0x8fe2]);
    }

    #[test]
    fn reset_requires_function_reset_support() {
        let write = |reset| space(CardFile::f1(), reset).write(0x78, &0xa810u16.to_le_bytes()).reset;
        assert!(write(true));
        assert!(!write(false));
        assert!(!space(CardFile::f1(), true).write(0x78, &0x2810u16.to_le_bytes()).reset);
        assert_eq!(read32(&space(CardFile::f1(), true), 0x74) >> 28, 1);
        assert_eq!(read32(&space(CardFile::f1(), false), 0x74) >> 28, 0);
    }

    #[test]
    fn control_registers_take_effect() {
        let mut space = space(CardFile::alveo(), false);
        assert!(space.write(0x04, &[0x06, 0x04]).bus_master);
        let effects = space.write(0x78, &0x5930u16.to_le_bytes());
        assert_eq!((effects.max_payload, effects.max_read_request), (1, 5));
        assert!(effects.intx_disabled && !effects.msix_enabled);
        let effects = space.write(0x63, &[0xc0]);
        assert!(effects.msix_enabled && effects.msix_masked);
        space.clear_bus_master();
        assert!(!space.effects().bus_master);
        let mut status = [0; 2];
        space.read(0x06, &mut status, true);
        assert_eq!(status, [0x18, 0]);
    }
}
