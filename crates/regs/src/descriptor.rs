//! The 32-byte descriptor (PG195, "Descriptors").

use bitflags::bitflags;

/// Bytes of a descriptor; also its alignment in host memory.
pub const DESCRIPTOR_BYTES: u64 = 32;
/// Most bytes that one descriptor moves.
pub const MAX_LENGTH: u32 = (1 << 28) - 1;
/// What bits 31:16 of the first word hold.
pub const MAGIC: u32 = 0xad4b;

bitflags! {
    /// Control bits of a descriptor.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// The list ends here: the engine fetches nothing more and goes idle.
        const STOP = 1 << 0;
        /// Completion is reported: status bit, interrupt and write-back, as far as each is enabled.
        const COMPLETED = 1 << 1;
        /// AXI-Stream H2C: TLAST goes with the last beat.
        const EOP = 1 << 4;
    }
}

/// A descriptor.
///
/// `source` is a host address for H2C and a card address for C2H; `destination` the other way round. With AXI-Stream C2H,
/// `source` is the host address of the metadata write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Stop, Completed, EOP.
    pub flags: Flags,
    /// How many descriptors lie adjacent to the one at `next`, after it; 6 bits.
    pub next_adjacent: u8,
    /// Bytes to move, 1 to [`MAX_LENGTH`].
    pub length: u32,
    /// Where data comes from.
    pub source: u64,
    /// Where data goes.
    pub destination: u64,
    /// Address of the next descriptor.
    pub next: u64,
}

impl Descriptor {
    /// The eight little-endian words as they lie in host memory.
    ///
    /// Bits outside the fields are dropped: the caller keeps `length` within [`MAX_LENGTH`] and `next_adjacent` within 6 bits.
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

    /// The same as four little-endian 64-bit words.
    #[inline]
    pub const fn to_quads(&self) -> [u64; 4] {
        let [control, length, ..] = self.to_words();
        [control as u64 | (length as u64) << 32, self.source, self.destination, self.next]
    }

    /// Reads the eight words; `None` if the magic number is not there.
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
