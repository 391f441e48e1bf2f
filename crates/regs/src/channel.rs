//! Channel registers, targets 0 (H2C) and 1 (C2H); PG195 "H2C Channel Registers" and "C2H Channel Registers".

use super::Direction;
use bitflags::bitflags;

/// RW: [`Control`], full overwrite.
pub const CONTROL: u32 = 0x04;
/// Sets bits of [`CONTROL`].
pub const CONTROL_W1S: u32 = 0x08;
/// Clears bits of [`CONTROL`].
pub const CONTROL_W1C: u32 = 0x0c;
/// RW1C: [`Status`]; writing 1 clears a sticky bit, BUSY is read-only.
pub const STATUS: u32 = 0x40;
/// Reads [`STATUS`], then clears its sticky bits.
pub const STATUS_RC: u32 = 0x44;
/// RO: descriptors completed since Run rose.
pub const COMPLETED_COUNT: u32 = 0x48;
/// RO: [`Alignments`].
pub const ALIGNMENTS: u32 = 0x4c;
/// RW: host address for the write-back of the completed count, low half; see [`WriteBack`].
pub const WRITE_BACK_LO: u32 = 0x88;
/// RW: high half of [`WRITE_BACK_LO`].
pub const WRITE_BACK_HI: u32 = 0x8c;
/// RW: bits of [`Status`] that raise the channel's interrupt.
pub const IRQ_ENABLE: u32 = 0x90;
/// Sets bits of [`IRQ_ENABLE`].
pub const IRQ_ENABLE_W1S: u32 = 0x94;
/// Clears bits of [`IRQ_ENABLE`].
pub const IRQ_ENABLE_W1C: u32 = 0x98;
/// RW: [`PerfControl`].
pub const PERF_CONTROL: u32 = 0xc0;
/// RO: clocks counted by the performance monitor, bits 31:0.
pub const PERF_CYCLES_LO: u32 = 0xc4;
/// RO: bits 41:32 of the count in 9:0. Bit 16 is set when the counter is at its maximum.
pub const PERF_CYCLES_HI: u32 = 0xc8;
/// RO: data beats counted, bits 31:0.
pub const PERF_DATA_LO: u32 = 0xcc;
/// RO: as [`PERF_CYCLES_HI`].
pub const PERF_DATA_HI: u32 = 0xd0;

bitflags! {
    /// Bits of [`CONTROL`]. The `IE_*` bits select what is logged into [`Status`], and which errors stop the engine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Control: u32 {
        /// A rising edge starts the engine. Clearing the bit stops it after the current descriptor.
        const RUN = 1 << 0;
        /// Logs [`Status::DESCRIPTOR_STOPPED`].
        const IE_DESCRIPTOR_STOPPED = 1 << 1;
        /// Logs [`Status::DESCRIPTOR_COMPLETED`].
        const IE_DESCRIPTOR_COMPLETED = 1 << 2;
        /// Logs [`Status::ALIGN_MISMATCH`].
        const IE_ALIGN_MISMATCH = 1 << 3;
        /// Logs [`Status::MAGIC_STOPPED`].
        const IE_MAGIC_STOPPED = 1 << 4;
        /// Logs [`Status::INVALID_LENGTH`].
        const IE_INVALID_LENGTH = 1 << 5;
        /// Logs [`Status::IDLE_STOPPED`].
        const IE_IDLE_STOPPED = 1 << 6;
        /// Logs read errors (13:9) and stops on them.
        const IE_READ_ERROR = 0x1f << 9;
        /// Logs write errors (18:14) and stops on them; H2C only.
        const IE_WRITE_ERROR = 0x1f << 14;
        /// Logs descriptor-fetch errors (23:19) and stops on them.
        const IE_DESC_ERROR = 0x1f << 19;
        /// The card address stays fixed.
        const NON_INCREMENTING = 1 << 25;
        /// Writes the completed count to host memory after descriptors with the Completed bit.
        const POLL_WRITE_BACK = 1 << 26;
        /// AXI-Stream C2H: disables the metadata write-back of each descriptor.
        const STREAM_WRITE_BACK_OFF = 1 << 27;
    }

    /// Bits of [`STATUS`]. All of them except BUSY are sticky, and are cleared when Run rises.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u32 {
        /// The channel has descriptors or requests outstanding.
        const BUSY = 1 << 0;
        /// A descriptor with Stop has completed.
        const DESCRIPTOR_STOPPED = 1 << 1;
        /// A descriptor with Completed has completed.
        const DESCRIPTOR_COMPLETED = 1 << 2;
        /// An address or length is not aligned as the mode requires.
        const ALIGN_MISMATCH = 1 << 3;
        /// A descriptor without the magic number was fetched.
        const MAGIC_STOPPED = 1 << 4;
        /// AXI-Stream: the length is not a multiple of the data path width.
        const INVALID_LENGTH = 1 << 5;
        /// The engine went idle after Run was cleared.
        const IDLE_STOPPED = 1 << 6;
        /// H2C: a host memory read returned an unsupported request. C2H: AXI decode error.
        const READ_ERROR_0 = 1 << 9;
        /// H2C: completer abort. C2H: AXI slave error.
        const READ_ERROR_1 = 1 << 10;
        /// H2C: parity error.
        const READ_ERROR_2 = 1 << 11;
        /// H2C: poisoned completion.
        const READ_ERROR_3 = 1 << 12;
        /// H2C: unexpected completion.
        const READ_ERROR_4 = 1 << 13;
        /// H2C: AXI decode error.
        const WRITE_DECODE_ERROR = 1 << 14;
        /// H2C: AXI slave error.
        const WRITE_SLAVE_ERROR = 1 << 15;
        /// Descriptor fetch: unsupported request.
        const DESC_UNSUPPORTED_REQUEST = 1 << 19;
        /// Descriptor fetch: completer abort.
        const DESC_COMPLETER_ABORT = 1 << 20;
        /// Descriptor fetch: parity error.
        const DESC_PARITY = 1 << 21;
        /// Descriptor fetch: poisoned completion.
        const DESC_POISONED = 1 << 22;
        /// Descriptor fetch: unexpected completion.
        const DESC_UNEXPECTED_COMPLETION = 1 << 23;
    }

    /// Bits of [`PERF_CONTROL`]. Vendor code and PG195 assign bits 0 and 2 in opposite order. Writing [`PerfControl::START`] has
    /// the same effect in both cases.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PerfControl: u32 {
        /// Clears the counters.
        const CLEAR = 1 << 1;
        /// Starts counting, and stops with a descriptor that has Stop.
        const START = 1 << 0 | 1 << 2;
    }
}

impl Control {
    /// Returns all `IE_*` bits defined for the direction.
    pub const fn all_ie(direction: Direction) -> Self {
        let both = Self::IE_DESCRIPTOR_STOPPED
            .union(Self::IE_DESCRIPTOR_COMPLETED)
            .union(Self::IE_ALIGN_MISMATCH)
            .union(Self::IE_MAGIC_STOPPED)
            .union(Self::IE_INVALID_LENGTH)
            .union(Self::IE_IDLE_STOPPED)
            .union(Self::IE_READ_ERROR)
            .union(Self::IE_DESC_ERROR);
        match direction {
            Direction::H2C => both.union(Self::IE_WRITE_ERROR),
            Direction::C2H => both,
        }
    }
}

impl Status {
    /// Returns the error bits of the direction.
    pub const fn errors(direction: Direction) -> Self {
        let both = 1 << 3 | 1 << 4 | 1 << 5 | 0x1f << 19;
        Self::from_bits_truncate(match direction {
            Direction::H2C => both | 0x1f << 9 | 0x3 << 14,
            Direction::C2H => both | 0x3 << 9,
        })
    }

    /// Returns a description of each error bit that is set, lowest bit first.
    pub fn explain(self, direction: Direction) -> Vec<&'static str> {
        let texts: [(Self, &str, &str); 15] = [
            (Self::ALIGN_MISMATCH, ALIGN, ALIGN),
            (Self::MAGIC_STOPPED, MAGIC, MAGIC),
            (Self::INVALID_LENGTH, LENGTH, LENGTH),
            (
                Self::READ_ERROR_0,
                "host memory read refused: the address is not mapped for the card",
                AXI_DECODE,
            ),
            (Self::READ_ERROR_1, "host memory read aborted by its completer", AXI_SLAVE),
            (Self::READ_ERROR_2, "parity error in host data", ""),
            (Self::READ_ERROR_3, "host data arrived poisoned", ""),
            (Self::READ_ERROR_4, "unexpected completion of a host read", ""),
            (Self::WRITE_DECODE_ERROR, AXI_DECODE, ""),
            (Self::WRITE_SLAVE_ERROR, AXI_SLAVE, ""),
            (Self::DESC_UNSUPPORTED_REQUEST, FETCH, FETCH),
            (Self::DESC_COMPLETER_ABORT, "descriptor fetch aborted", "descriptor fetch aborted"),
            (Self::DESC_PARITY, "parity error in a descriptor", "parity error in a descriptor"),
            (Self::DESC_POISONED, "a descriptor arrived poisoned", "a descriptor arrived poisoned"),
            (
                Self::DESC_UNEXPECTED_COMPLETION,
                "unexpected completion of a fetch",
                "unexpected completion of a fetch",
            ),
        ];
        let errors = self & Self::errors(direction);
        let text = |(bit, h2c, c2h)| {
            let text = if direction == Direction::H2C { h2c } else { c2h };
            errors.contains(bit).then_some(text)
        };
        texts.into_iter().filter_map(text).collect()
    }
}

const ALIGN: &str = "the address or length is not aligned as the mode requires";
const MAGIC: &str = "a descriptor without the magic number was fetched";
const LENGTH: &str = "the stream length is not a multiple of the data path width";
const AXI_DECODE: &str = "nothing answers at this card address (AXI decode error)";
const AXI_SLAVE: &str = "the card's logic refused the access (AXI slave error)";
const FETCH: &str = "descriptor fetch refused: the list is not mapped for the card";

/// The value of [`ALIGNMENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignments(pub u32);

impl Alignments {
    /// Returns the alignment of addresses in bytes; 1 if the register reads 0.
    pub const fn address(self) -> u32 {
        at_least_one(self.0 >> 16 & 0xff)
    }

    /// Returns the granularity of lengths in bytes; 1 if the register reads 0.
    pub const fn length(self) -> u32 {
        at_least_one(self.0 >> 8 & 0xff)
    }

    /// Returns the number of address bits; 64 if the register reads 0.
    pub const fn address_bits(self) -> u32 {
        if self.0 & 0xff == 0 { 64 } else { self.0 & 0xff }
    }
}

const fn at_least_one(value: u32) -> u32 {
    if value == 0 { 1 } else { value }
}

/// The word written back to host memory by the engine, little-endian (PG195, "Poll Mode").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBack(pub u32);

impl WriteBack {
    /// The width of the count in bits. The count wraps.
    pub const COUNT_BITS: u32 = 24;
    /// The mask of the count.
    pub const COUNT_MASK: u32 = (1 << Self::COUNT_BITS) - 1;
    /// The engine encountered an error. Silicon is known not to write this bit for every error.
    pub const ERROR: u32 = 1 << 31;

    /// Returns the number of descriptors completed since Run rose, modulo 2^24.
    pub const fn count(self) -> u32 {
        self.0 & Self::COUNT_MASK
    }

    /// Returns whether the error bit is set.
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_values_match_the_manual() {
        assert_eq!(Control::all_ie(Direction::H2C).bits(), 0x00ff_fe7e);
        assert_eq!(Control::all_ie(Direction::C2H).bits(), 0x00f8_3e7e);
        assert_eq!(Control::POLL_WRITE_BACK.bits(), 0x0400_0000);
    }

    #[test]
    fn errors_are_explained_by_direction() {
        let status = Status::from_bits_retain(0x0008_0210);
        assert_eq!(status.explain(Direction::H2C).len(), 3);
        assert_eq!(Status::READ_ERROR_0.explain(Direction::C2H), [AXI_DECODE]);
        assert!(Status::WRITE_SLAVE_ERROR.explain(Direction::C2H).is_empty());
        assert!((Status::BUSY | Status::IDLE_STOPPED).explain(Direction::H2C).is_empty());
    }

    #[test]
    fn alignments_default_to_bytes() {
        let seen = Alignments(0x0001_0140);
        assert_eq!((seen.address(), seen.length(), seen.address_bits()), (1, 1, 64));
        assert_eq!(
            (Alignments(0).address(), Alignments(0).length(), Alignments(0).address_bits()),
            (1, 1, 64)
        );
    }
}
