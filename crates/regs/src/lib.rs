//! The register map and the descriptor's layout: offsets, bits and fields, named as in PG195. No device access happens here.
//!
//! The XDMA register space is a 64 KiB BAR. An address in it is `target << 12 | channel << 8 | offset` (PG195, "PCIe to
//! DMA Address Format"). All registers are 32 bits, little-endian, and only 32-bit accesses are allowed. Names that end in
//! `_W1S`, `_W1C` and `_RC` are aliases of the register they are named after: write one to set, write one to
//! clear, read and clear.

#![deny(missing_docs)]

pub mod channel;
pub mod config;
pub mod descriptor;
pub mod irq;
pub mod map;
pub mod msix;
pub mod msm;
pub mod sgdma;

/// Most channels of a direction.
pub const MAX_CHANNELS: usize = 4;
/// User interrupt lines.
pub const USER_IRQS: usize = 16;
/// Bytes of the register BAR that hold registers; the MSI-X table follows at [`msix::TABLE`].
pub const REGISTER_SPACE: u64 = 0x8000;
/// What every register reads when the card is gone.
pub const GONE: u32 = 0xffff_ffff;

/// The direction of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Host to card.
    H2C,
    /// Card to host.
    C2H,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H2C => "H2C",
            Self::C2H => "C2H",
        })
    }
}

/// The blocks of the register space, bits 15:12 of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Target {
    /// H2C channels: [`channel`].
    H2C = 0,
    /// C2H channels: [`channel`].
    C2H = 1,
    /// Interrupts: [`irq`].
    Irq = 2,
    /// Configuration: [`config`].
    Config = 3,
    /// Descriptor fetch of the H2C channels: [`sgdma`].
    H2CSgdma = 4,
    /// Descriptor fetch of the C2H channels: [`sgdma`].
    C2HSgdma = 5,
    /// Descriptor fetch, common part: [`sgdma`].
    SgdmaCommon = 6,
}

impl Target {
    /// Address of the block; `channel` is 0 where the target has no channels. An address has four bits for it, and only the low four
    /// are taken.
    ///
    /// ```
    /// use xdma_regs::Target;
    /// assert_eq!(Target::C2HSgdma.base(2), 0x5200);
    /// ```
    pub const fn base(self, channel: usize) -> u32 {
        (self as u32) << 12 | (channel as u32 & 0xf) << 8
    }

    /// The channel block of a direction.
    pub const fn channel(direction: Direction) -> Self {
        match direction {
            Direction::H2C => Self::H2C,
            Direction::C2H => Self::C2H,
        }
    }

    /// The descriptor-fetch block of a direction.
    pub const fn sgdma(direction: Direction) -> Self {
        match direction {
            Direction::H2C => Self::H2CSgdma,
            Direction::C2H => Self::C2HSgdma,
        }
    }
}

/// Offset of the identifier, the first register of every block.
pub const IDENTIFIER: u32 = 0x00;

/// An identifier register (RO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identifier(pub u32);

impl Identifier {
    /// What bits 31:20 hold in every block of an XDMA core.
    pub const MAGIC: u32 = 0x1fc;

    /// The identifier of `target` and `channel`, of which there are four bits, as a core of 2017.1 or later has it.
    pub const fn new(target: Target, channel: usize, stream: bool) -> Self {
        Self(
            Self::MAGIC << 20
                | (target as u32) << 16
                | (stream as u32) << 15
                | (channel as u32 & 0xf) << 8
                | 6,
        )
    }

    /// Whether this is `target`'s identifier, with the number of `channel`.
    pub const fn is(self, target: Target, channel: usize) -> bool {
        self.0 >> 16 == (Self::MAGIC << 4 | target as u32) && ((self.0 >> 8) & 0xf) as usize == channel
    }

    /// Whether the channel is an AXI-Stream one (bit 15).
    pub const fn is_stream(self) -> bool {
        self.0 & 1 << 15 != 0
    }

    /// The core's version, bits 7:0: 1 = 2015.3 to 6 = 2017.1 and later.
    pub const fn version(self) -> u8 {
        self.0 as u8
    }
}

/// Bit of a channel in the registers of the SGDMA common block: H2C in 3:0, C2H in 19:16. No bit if there can be no such channel.
pub const fn common_bit(direction: Direction, channel: usize) -> u32 {
    if channel >= MAX_CHANNELS {
        return 0;
    }
    match direction {
        Direction::H2C => 1 << channel,
        Direction::C2H => 1 << (16 + channel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_those_seen_on_hardware() {
        assert_eq!(Identifier::new(Target::H2C, 0, false).0, 0x1fc0_0006);
        assert_eq!(Identifier::new(Target::C2H, 0, true).0, 0x1fc1_8006);
        assert_eq!(Identifier::new(Target::C2HSgdma, 3, false).0, 0x1fc5_0306);
        assert!(Identifier(0x1fc1_8106).is(Target::C2H, 1));
        assert!(!Identifier(0x1fc1_8106).is(Target::C2H, 0));
        assert!(!Identifier(0x1fc1_8106).is(Target::C2H, 1 << 32 | 1));
        assert!(!Identifier(0x1fc1_8106).is(Target::H2C, 1));
        assert!(!Identifier(GONE).is(Target::H2C, 0xf));
    }

    #[test]
    fn addresses_are_target_channel_offset() {
        assert_eq!(Target::H2C.base(0), 0);
        assert_eq!(Target::C2H.base(3), 0x1300);
        assert_eq!(Target::SgdmaCommon.base(0), 0x6000);
        assert_eq!(common_bit(Direction::C2H, 3), 1 << 19);
        assert_eq!([4, 16, 1 << 32, usize::MAX].map(|channel| common_bit(Direction::H2C, channel)), [0; 4]);
    }
}
