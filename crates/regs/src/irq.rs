//! Interrupt registers, target 2; PG195 "IRQ Block Registers".
//!
//! In the channel registers, the H2C channels come first. The C2H channels follow the last existing H2C channel.

/// RW: user interrupt enable mask, one bit for each of 16 lines.
pub const USER_ENABLE: u32 = 0x04;
/// Sets bits of [`USER_ENABLE`].
pub const USER_ENABLE_W1S: u32 = 0x08;
/// Clears bits of [`USER_ENABLE`].
pub const USER_ENABLE_W1C: u32 = 0x0c;
/// RW: channel interrupt enable mask.
pub const CHANNEL_ENABLE: u32 = 0x10;
/// Sets bits of [`CHANNEL_ENABLE`].
pub const CHANNEL_ENABLE_W1S: u32 = 0x14;
/// Clears bits of [`CHANNEL_ENABLE`].
pub const CHANNEL_ENABLE_W1C: u32 = 0x18;
/// RO: user interrupt sources that are active and enabled.
pub const USER_REQUEST: u32 = 0x40;
/// RO: channel interrupt sources that are active and enabled.
pub const CHANNEL_REQUEST: u32 = 0x44;
/// RO: user interrupt sources that are active.
pub const USER_PENDING: u32 = 0x48;
/// RO: channel interrupt sources that are active.
pub const CHANNEL_PENDING: u32 = 0x4c;
/// RW: MSI-X vector of user lines 0 to 3, in bits 4:0, 12:8, 20:16, 28:24; three more registers follow.
pub const USER_VECTORS: u32 = 0x80;
/// RW: MSI-X vector of channel interrupts 0 to 3, packed in the same way; one more register follows.
pub const CHANNEL_VECTORS: u32 = 0xa0;

/// Packs four vector numbers into one register, the first one in the low bits.
pub const fn pack_vectors(vectors: [u8; 4]) -> u32 {
    let [a, b, c, d] = vectors;
    u32::from_le_bytes([a & 0x1f, b & 0x1f, c & 0x1f, d & 0x1f])
}

#[cfg(test)]
mod tests {
    #[test]
    fn vectors_are_packed_as_in_the_kernel_driver() {
        assert_eq!(super::pack_vectors([8, 9, 10, 11]), 0x0b0a_0908);
    }
}
