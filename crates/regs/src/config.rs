//! Configuration registers, target 3; PG195 "Config Block Registers".

/// RO: 15:0 bus, device and function.
pub const BUS_DEV: u32 = 0x04;
/// RO: 2:0 maximum payload, 0 = 128 bytes to 5 = 4096; see [`size_bytes`].
pub const MAX_PAYLOAD: u32 = 0x08;
/// RO: 2:0 maximum read request, encoded in the same way.
pub const MAX_READ_REQUEST: u32 = 0x0c;
/// RO: 15:0 system identifier, 0xff01.
pub const SYSTEM_ID: u32 = 0x10;
/// RO: bit 0 MSI enabled, bit 1 MSI-X enabled.
pub const MSI_ENABLE: u32 = 0x14;
/// RO: width of the data path; see [`data_width_bytes`].
pub const DATA_WIDTH: u32 = 0x18;
/// RW: bit 0 relaxed ordering.
pub const PCIE_CONTROL: u32 = 0x1c;
/// RW: limit for the payload, set by software.
pub const USER_MAX_PAYLOAD: u32 = 0x40;
/// RW: limit for the read request, set by software.
pub const USER_MAX_READ_REQUEST: u32 = 0x44;
/// RW: 4:0, C2H stream data is flushed after 2^n clocks; 0 disables the flush.
pub const WRITE_FLUSH_TIMEOUT: u32 = 0x60;

/// Returns the number of bytes for a code in [`MAX_PAYLOAD`] or [`MAX_READ_REQUEST`].
pub const fn size_bytes(code: u32) -> u32 {
    128 << (code & 7)
}

/// Returns the data path width in bytes for a code in [`DATA_WIDTH`]: 8, 16, 32 or 64.
pub const fn data_width_bytes(code: u32) -> u32 {
    8 << (code & 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        assert_eq!((size_bytes(0), size_bytes(2), size_bytes(5)), (128, 512, 4096));
        assert_eq!((data_width_bytes(0), data_width_bytes(3)), (8, 64));
    }
}
