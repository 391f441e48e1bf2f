//! The 32-byte descriptor (PG195, "Descriptors").

use bitflags::bitflags;

/// The size of a descriptor in bytes, which is also its alignment in host memory.
pub const DESCRIPTOR_BYTES: u64 = 32;
/// The maximum number of bytes moved by one descriptor.
pub const MAX_LENGTH: u32 = (1 << 28) - 1;
/// The value of bits 31:16 of the first word.
pub const MAGIC: u32 = 0xad4b;

bitflags! {
    /// Control bits of a descriptor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// The list ends here: the engine stops fetching and goes idle.
        const STOP = 1 << 0;
        /// Completion is reported through the status bit, the interrupt and the write-back, each if enabled.
        const COMPLETED = 1 << 1;
        /// AXI-Stream H2C: TLAST is set on the last beat.
        const EOP = 1 << 4;
    }
}

/// A descriptor.
///
/// `source` is a host address for H2C and a card address for C2H; `destination` is the opposite. With AXI-Stream C2H, `source` is
/// the host address of the metadata write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The control bits: Stop, Completed, EOP.
    pub flags: Flags,
    /// The number of descriptors that are adjacent to the one at `next` and follow it; 6 bits.
    pub next_adjacent: u8,
    /// The number of bytes to move, 1 to [`MAX_LENGTH`].
    pub length: u32,
    /// The source address.
    pub source: u64,
    /// The destination address.
    pub destination: u64,
    /// The address of the next descriptor.
    pub next: u64,
}

impl Descriptor {
    /// Returns the eight little-endian words as stored in host memory.
    ///
    /// Bits outside of the fields are dropped, so the caller must keep `length` within [`MAX_LENGTH`] and `next_adjacent` within
    /// 6 bits.
    #[inline]
    pub const fn to_words(&self) -> [u32; 8] {
        [
            MAGIC << 16 | (self.next_adjacent as u32 & 0x3f) << 8 | self.flags.bits() & 0xff,
            self.length & MAX_LENGTH,
            self.source as u32,
            (self.source >> 32) as u32,
            self.destination as u32,
            (self.destination >> 32) as u32,
            self.next as u32,
            (self.next >> 32) as u32,
        ]
    }

    /// Returns the descriptor as four little-endian 64-bit words.
    #[inline]
    pub const fn to_quads(&self) -> [u64; 4] {
        let [control, length, ..] = self.to_words();
        [control as u64 | (length as u64) << 32, self.source, self.destination, self.next]
    }

    /// Decodes the eight words. Returns `None` if the magic number is missing.
    pub const fn from_words(words: [u32; 8]) -> Option<Self> {
        if words[0] >> 16 != MAGIC {
            return None;
        }
        Some(Self {
            flags: Flags::from_bits_retain(words[0] & 0xff),
            next_adjacent: (words[0] >> 8 & 0x3f) as u8,
            length: words[1] & MAX_LENGTH,
            source: words[2] as u64 | (words[3] as u64) << 32,
            destination: words[4] as u64 | (words[5] as u64) << 32,
            next: words[6] as u64 | (words[7] as u64) << 32,
        })
    }
}
