//! Messages of the vfio-user protocol, version 0.0 (QEMU, `docs/interop/vfio-user.rst`): a 16-byte header followed by a body,
//! both little-endian.

use crate::bus::InterruptKind;

/// Size of a header in bytes.
pub const HEADER: usize = 16;
/// Maximum size of a message that the client accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;

/// Flag: the message is a reply.
pub const REPLY: u32 = 1;
/// Flag: no reply is requested.
pub const NO_REPLY: u32 = 1 << 4;
/// Flag of a reply: the command failed; the header has an errno.
pub const ERROR: u32 = 1 << 5;

/// Device flag: the device can be reset.
pub const DEVICE_RESET: u32 = 1 << 0;
/// Device flag: the device is a PCI function.
pub const DEVICE_PCI: u32 = 1 << 1;
/// Index of the config space region.
pub const CONFIG_REGION: u32 = 7;
/// Returns the protocol's index of a kind of interrupt.
pub fn interrupt_index(kind: InterruptKind) -> u32 {
    match kind {
        InterruptKind::Intx => 0,
        InterruptKind::Msi => 1,
        InterruptKind::Msix => 2,
    }
}

/// DMA_MAP flag: the card may read.
pub const MAP_READ: u32 = 1 << 0;
/// DMA_MAP flag: the card may write.
pub const MAP_WRITE: u32 = 1 << 1;
/// SET_IRQS flags: no data, trigger.
pub const IRQ_NONE_TRIGGER: u32 = 1 << 0 | 1 << 5;
/// SET_IRQS flags: no data, unmask.
pub const IRQ_NONE_UNMASK: u32 = 1 << 0 | 1 << 4;
/// SET_IRQS flags: eventfds, trigger.
pub const IRQ_EVENTFD_TRIGGER: u32 = 1 << 2 | 1 << 5;

/// Commands that the client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    Version = 1,
    DmaMap = 2,
    DmaUnmap = 3,
    DeviceInfo = 4,
    RegionInfo = 5,
    IrqInfo = 7,
    SetIrqs = 8,
    RegionRead = 9,
    RegionWrite = 10,
    DeviceReset = 13,
}

impl Command {
    /// Returns the protocol's name for the command, for error messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "VERSION",
            Self::DmaMap => "DMA_MAP",
            Self::DmaUnmap => "DMA_UNMAP",
            Self::DeviceInfo => "DEVICE_GET_INFO",
            Self::RegionInfo => "DEVICE_GET_REGION_INFO",
            Self::IrqInfo => "DEVICE_GET_IRQ_INFO",
            Self::SetIrqs => "DEVICE_SET_IRQS",
            Self::RegionRead => "REGION_READ",
            Self::RegionWrite => "REGION_WRITE",
            Self::DeviceReset => "DEVICE_RESET",
        }
    }
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    pub command: u16,
    pub size: u32,
    pub flags: u32,
    pub error: u32,
}

impl Header {
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.command.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.error.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; HEADER]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let [id, command] = [word(0) as u16, (word(0) >> 16) as u16];
        Self { id, command, size: word(4), flags: word(8), error: word(12) }
    }
}

/// The body of a request: consecutive fields, at most 48 bytes.
#[derive(Clone, Copy)]
pub struct Body {
    bytes: [u8; 48],
    len: usize,
}

impl Body {
    pub fn new() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }

    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads the 32-bit field at offset `at` of a reply's body, if the body is long enough.
pub fn field32(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?))
}

/// Reads the 64-bit field at offset `at` of a reply's body, if the body is long enough.
pub fn field64(body: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_layout_of_the_protocol() {
        let header = Header { id: 0x0102, command: 9, size: 36, flags: REPLY, error: 0 };
        assert_eq!(header.to_bytes(), [2, 1, 9, 0, 36, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Header::from_bytes(header.to_bytes()), header);
    }

    #[test]
    fn short_bodies_have_no_fields() {
        let body = Body::new().u32(1).u64(2);
        assert_eq!((field32(body.as_slice(), 0), field64(body.as_slice(), 4)), (Some(1), Some(2)));
        assert_eq!((field32(body.as_slice(), 9), field64(body.as_slice(), 5)), (None, None));
    }
}
