//! The register map and the descriptor layout of XDMA cards: offsets, bits and fields, named as in PG195. This crate does not
//! access devices.
//!
//! The XDMA register space is a 64 KiB BAR. An address in it is `target << 12 | channel << 8 | offset` (PG195, "PCIe to DMA
//! Address Format"). All registers are 32 bits, little-endian, and only 32-bit accesses are allowed. Names that end in `_W1S`,
//! `_W1C` and `_RC` are aliases of the register they are named after: write one to set, write one to clear, read and clear.

#![deny(missing_docs)]

pub mod channel;
pub mod config;
pub mod descriptor;
pub mod ids;
pub mod irq;
pub mod map;
pub mod msix;
pub mod msm;
pub mod sgdma;
pub mod systemverilog;

/// The maximum number of channels per direction.
pub const MAX_CHANNELS: usize = 4;
/// The number of user interrupt lines.
pub const USER_IRQS: usize = 16;
/// The size in bytes of the register area in the register BAR. The MSI-X table follows at [`msix::TABLE`].
pub const REGISTER_SPACE: u64 = 0x8000;
/// The value of every register when the card does not respond.
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

/// The blocks of the register space, in bits 15:12 of an address.
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
    /// Returns the address of the block. `channel` is 0 for targets without channels; only its low four bits are used.
    ///
    /// ```
    /// use xdma_regs::Target;
    /// assert_eq!(Target::C2HSgdma.base(2), 0x5200);
    /// ```
    pub const fn base(self, channel: usize) -> u32 {
        (self as u32) << 12 | (channel as u32 & 0xf) << 8
    }

    /// Returns the channel block of a direction.
    pub const fn channel(direction: Direction) -> Self {
        match direction {
            Direction::H2C => Self::H2C,
            Direction::C2H => Self::C2H,
        }
    }

    /// Returns the descriptor-fetch block of a direction.
    pub const fn sgdma(direction: Direction) -> Self {
        match direction {
            Direction::H2C => Self::H2CSgdma,
            Direction::C2H => Self::C2HSgdma,
        }
    }
}

/// The offset of the identifier, which is the first register of every block.
pub const IDENTIFIER: u32 = 0x00;

/// An identifier register (RO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identifier(pub u32);

impl Identifier {
    /// The value of bits 31:20 in every block of an XDMA core.
    pub const MAGIC: u32 = 0x1fc;

    /// Returns the identifier of `target` and `channel` (low four bits only) in a core of version 2017.1 or later.
    pub const fn new(target: Target, channel: usize, stream: bool) -> Self {
        Self(
            Self::MAGIC << 20
                | (target as u32) << 16
                | (stream as u32) << 15
                | (channel as u32 & 0xf) << 8
                | 6,
        )
    }

    /// Returns this identifier with another version in bits 7:0.
    pub const fn with_version(self, version: u8) -> Self {
        Self(self.0 & !0xff | version as u32)
    }

    /// Returns whether this is the identifier of `target` and `channel`.
    pub const fn is(self, target: Target, channel: usize) -> bool {
        self.0 >> 16 == (Self::MAGIC << 4 | target as u32) && ((self.0 >> 8) & 0xf) as usize == channel
    }

    /// Returns whether the channel is an AXI-Stream channel (bit 15).
    pub const fn is_stream(self) -> bool {
        self.0 & 1 << 15 != 0
    }

    /// Returns the version of the core, bits 7:0: from 1 = 2015.3 to 6 = 2017.1 and later.
    pub const fn version(self) -> u8 {
        self.0 as u8
    }
}

/// Returns the bit of a channel in the registers of the SGDMA common block: H2C in 3:0, C2H in 19:16. Returns 0 for channel
/// numbers that cannot exist.
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
    fn identifiers_match_hardware() {
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
    fn addresses_combine_target_channel_and_offset() {
        assert_eq!(Target::H2C.base(0), 0);
        assert_eq!(Target::C2H.base(3), 0x1300);
        assert_eq!(Target::SgdmaCommon.base(0), 0x6000);
        assert_eq!(common_bit(Direction::C2H, 3), 1 << 19);
        assert_eq!([4, 16, 1 << 32, usize::MAX].map(|channel| common_bit(Direction::H2C, channel)), [0; 4]);
    }
}
