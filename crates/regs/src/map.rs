//! All blocks, registers and fields by name, for tools that print them.
//!
//! Offsets and bits are those of the other modules of [`regs`](super); this module makes them iterable. Each name is the name of
//! the constant.

use super::{Direction, MAX_CHANNELS, Target};
use bitflags::Flags;
use std::fmt;

/// A group of bits in a register.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name of the field.
    pub name: &'static str,
    /// The bits of the field.
    pub mask: u32,
    /// Whether the field is a flag rather than a number. An error class of several bits is also a flag.
    pub flag: bool,
    /// Converts a code to the number of bytes that it represents, for fields that contain such a code.
    pub bytes: Option<fn(u32) -> u32>,
}

impl Field {
    const fn number(name: &'static str, high: u32, low: u32) -> Self {
        Self { name, mask: (u32::MAX >> (31 - high)) & (u32::MAX << low), flag: false, bytes: None }
    }

    const fn code(name: &'static str, high: u32, low: u32, bytes: fn(u32) -> u32) -> Self {
        Self { bytes: Some(bytes), ..Self::number(name, high, low) }
    }

    const fn flag(name: &'static str, mask: u32) -> Self {
        Self { name, mask, flag: true, bytes: None }
    }

    /// Extracts the field from a register value.
    pub const fn of(&self, register: u32) -> u32 {
        match (register & self.mask).checked_shr(self.mask.trailing_zeros()) {
            Some(value) => value,
            // The field has no bits.
            None => 0,
        }
    }
}

/// The access type of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Ro,
    /// Read and write.
    Rw,
    /// Read and write; writing 1 clears a bit.
    Rw1c,
    /// Reading clears the register, so a reader may consume events that another one waits for.
    Rc,
    /// Write only: an alias that sets or clears bits of another register, or a trigger.
    Wo,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ro => "RO",
            Self::Rw => "RW",
            Self::Rw1c => "RW1C",
            Self::Rc => "RC",
            Self::Wo => "WO",
        })
    }
}

/// A register, or an array of identical registers.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// The name of the register.
    pub name: &'static str,
    /// The offset in its block.
    pub offset: u32,
    /// The access type.
    pub access: Access,
    /// The number of registers in the array, 4 bytes apart.
    pub count: u32,
    /// Whether two words form one number: reading the first, the low half, latches the second.
    pub pair: bool,
    /// The fields. A register without fields is a single number.
    pub fields: &'static [Field],
}

impl Register {
    const fn times(self, count: u32) -> Self {
        Self { count, ..self }
    }

    const fn pair(self) -> Self {
        Self { pair: true, ..self }
    }
}

/// The BAR that contains a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The BAR of the XDMA core.
    Xdma,
    /// The BAR of the user logic.
    User,
}

/// A block of registers.
#[derive(Clone, Debug)]
pub struct Block {
    /// The name of the block, such as `h2c0` or `irq`.
    pub name: String,
    /// The BAR.
    pub space: Space,
    /// The start address in the BAR.
    pub base: u32,
    /// The direction, for blocks of a channel.
    pub direction: Option<Direction>,
    /// The registers, in address order.
    pub registers: &'static [Register],
}

impl Block {
    fn xdma(name: &str, target: Target, registers: &'static [Register]) -> Self {
        Self { name: name.into(), space: Space::Xdma, base: target.base(0), direction: None, registers }
    }

    fn channel(direction: Direction, index: usize, sgdma: bool) -> Self {
        let name = format!("{direction}{index}").to_lowercase();
        let (name, target, registers) = match sgdma {
            false => (name, Target::channel(direction), CHANNEL),
            true => (name + "_sgdma", Target::sgdma(direction), SGDMA),
        };
        let base = target.base(index);
        Self { name, space: Space::Xdma, base, direction: Some(direction), registers }
    }

    /// Returns the blocks of a core with the given numbers of channels, at most four per direction, in address order.
    pub fn of_core(h2c: usize, c2h: usize) -> Vec<Self> {
        let (h2c, c2h) = (h2c.min(MAX_CHANNELS), c2h.min(MAX_CHANNELS));
        let channels = |sgdma| {
            let all = (0..h2c).map(|at| (Direction::H2C, at)).chain((0..c2h).map(|at| (Direction::C2H, at)));
            all.map(move |(direction, index)| Self::channel(direction, index, sgdma))
        };
        let middle = [Self::xdma("irq", Target::Irq, IRQ), Self::xdma("config", Target::Config, CONFIG)];
        let common = Self::xdma("sgdma_common", Target::SgdmaCommon, SGDMA_COMMON);
        channels(false).chain(middle).chain(channels(true)).chain([common]).collect()
    }

    /// Returns the block of the MSM design.
    pub fn msm() -> Self {
        Self { name: "msm".into(), space: Space::User, base: 0, direction: None, registers: MSM }
    }
}

/// The flags of a type, in order of declaration.
macro_rules! flags {
    ($flags:ty) => {{
        const COUNT: usize = <$flags as Flags>::FLAGS.len();
        const FIELDS: [Field; COUNT] = {
            let mut fields = [Field::flag("", 0); COUNT];
            let mut at = 0;
            while at < COUNT {
                let flag = &<$flags as Flags>::FLAGS[at];
                fields[at] = Field::flag(flag.name(), flag.value().bits());
                at += 1;
            }
            fields
        };
        &FIELDS
    }};
}

/// A register from its constant, access type and optional fields.
macro_rules! register {
    ($name:ident $access:ident) => {
        register!($name $access &[])
    };
    ($name:ident $access:ident $fields:expr) => {
        Register {
            name: stringify!($name),
            offset: $name,
            access: Access::$access,
            count: 1,
            pair: false,
            fields: $fields,
        }
    };
}

const ID: &[Field] = &[
    Field::number("magic", 31, 20),
    Field::number("target", 19, 16),
    Field::flag("stream", 1 << 15),
    Field::number("channel", 11, 8),
    Field::number("version", 7, 0),
];
const COUNTER_HIGH: &[Field] = &[Field::number("high", 9, 0), Field::flag("at_maximum", 1 << 16)];
const SIZE: &[Field] = &[Field::code("size", 2, 0, super::config::size_bytes)];
/// The channels in the registers of the SGDMA common block.
const COMMON: &[Field] = &[Field::number("h2c", 3, 0), Field::number("c2h", 19, 16)];
const FOUR_VECTORS: &[Field] = &[
    Field::number("first", 4, 0),
    Field::number("second", 12, 8),
    Field::number("third", 20, 16),
    Field::number("fourth", 28, 24),
];

const CHANNEL: &[Register] = {
    use super::IDENTIFIER;
    use super::channel::*;
    &[
        register!(IDENTIFIER Ro ID),
        register!(CONTROL Rw flags!(Control)),
        register!(CONTROL_W1S Wo flags!(Control)),
        register!(CONTROL_W1C Wo flags!(Control)),
        register!(STATUS Rw1c flags!(Status)),
        register!(STATUS_RC Rc flags!(Status)),
        register!(COMPLETED_COUNT Ro),
        register!(ALIGNMENTS Ro &[
            Field::number("address_bytes", 23, 16),
            Field::number("length_bytes", 15, 8),
            Field::number("address_bits", 7, 0),
        ]),
        register!(WRITE_BACK_LO Rw),
        register!(WRITE_BACK_HI Rw),
        register!(IRQ_ENABLE Rw flags!(Status)),
        register!(IRQ_ENABLE_W1S Wo flags!(Status)),
        register!(IRQ_ENABLE_W1C Wo flags!(Status)),
        register!(PERF_CONTROL Rw flags!(PerfControl)),
        register!(PERF_CYCLES_LO Ro),
        register!(PERF_CYCLES_HI Ro COUNTER_HIGH),
        register!(PERF_DATA_LO Ro),
        register!(PERF_DATA_HI Ro COUNTER_HIGH),
    ]
};

const IRQ: &[Register] = {
    use super::IDENTIFIER;
    use super::irq::*;
    &[
        register!(IDENTIFIER Ro ID),
        register!(USER_ENABLE Rw),
        register!(USER_ENABLE_W1S Wo),
        register!(USER_ENABLE_W1C Wo),
        register!(CHANNEL_ENABLE Rw),
        register!(CHANNEL_ENABLE_W1S Wo),
        register!(CHANNEL_ENABLE_W1C Wo),
        register!(USER_REQUEST Ro),
        register!(CHANNEL_REQUEST Ro),
        register!(USER_PENDING Ro),
        register!(CHANNEL_PENDING Ro),
        register!(USER_VECTORS Rw FOUR_VECTORS).times(4),
        register!(CHANNEL_VECTORS Rw FOUR_VECTORS).times(2),
    ]
};

const CONFIG: &[Register] = {
    use super::IDENTIFIER;
    use super::config::*;
    &[
        register!(IDENTIFIER Ro ID),
        register!(BUS_DEV Ro &[
            Field::number("bus", 15, 8),
            Field::number("device", 7, 3),
            Field::number("function", 2, 0),
        ]),
        register!(MAX_PAYLOAD Ro SIZE),
        register!(MAX_READ_REQUEST Ro SIZE),
        register!(SYSTEM_ID Ro &[Field::number("id", 15, 0)]),
        register!(MSI_ENABLE Ro &[Field::flag("msi", 1), Field::flag("msix", 2)]),
        register!(DATA_WIDTH Ro &[Field::code("width", 2, 0, data_width_bytes)]),
        register!(PCIE_CONTROL Rw &[Field::flag("relaxed_ordering", 1)]),
        register!(USER_MAX_PAYLOAD Rw SIZE),
        register!(USER_MAX_READ_REQUEST Rw SIZE),
        register!(WRITE_FLUSH_TIMEOUT Rw &[Field::number("exponent", 4, 0)]),
    ]
};

const SGDMA: &[Register] = {
    use super::IDENTIFIER;
    use super::sgdma::*;
    &[
        register!(IDENTIFIER Ro ID),
        register!(DESCRIPTOR_LO Rw),
        register!(DESCRIPTOR_HI Rw),
        register!(DESCRIPTOR_ADJACENT Rw &[Field::number("adjacent", 5, 0)]),
        register!(CREDITS Rw &[Field::number("credits", 9, 0)]),
    ]
};

const SGDMA_COMMON: &[Register] = {
    use super::IDENTIFIER;
    use super::sgdma::*;
    &[
        register!(IDENTIFIER Ro ID),
        register!(FETCH_HALT Rw COMMON),
        register!(FETCH_HALT_W1S Wo COMMON),
        register!(FETCH_HALT_W1C Wo COMMON),
        register!(CREDIT_ENABLE Rw COMMON),
        register!(CREDIT_ENABLE_W1S Wo COMMON),
        register!(CREDIT_ENABLE_W1C Wo COMMON),
    ]
};

/// The flag sets of the MSM design, by type name.
pub const MSM_FLAGS: &[(&str, &[Field])] = {
    use super::msm::*;
    &[
        ("Ctrl", flags!(Ctrl)),
        ("Status", flags!(Status)),
        ("Errors", flags!(Errors)),
        ("Mode", flags!(Mode)),
        ("Irq", flags!(Irq)),
    ]
};

const MSM: &[Register] = {
    use super::msm::*;
    &[
        register!(IMAGE_ID Ro),
        register!(IMAGE_PARAMETERS Ro &[
            Field::number("stub", 31, 28),
            Field::number("curve", 27, 20),
            Field::number("adders", 19, 16),
            Field::number("bucket_bits", 15, 8),
            Field::number("segments", 7, 4),
        ]),
        register!(ENGINE_READY Ro),
        register!(TASK_LABEL Ro),
        register!(N_ELEMENTS Rw),
        register!(PUSH_TASK Wo),
        register!(RESULT_VALID Ro),
        register!(RESULT_LABEL Ro),
        register!(RESULT Ro).times(RESULT_BYTES as u32 / 4),
        register!(POP_RESULT Wo),
        register!(PENDING_TASKS Ro),
        register!(PENDING_RESULTS Ro),
        register!(FINAL_ACCUMULATION Ro),
        register!(ELEMENTS_LEFT Ro),
        register!(SCALARS_IN_FIFO Ro),
        register!(POINTS_IN_FIFO Ro),
        register!(PHASE1_CLOCKS Ro).pair(),
        register!(EXTENSION_ID Ro),
        register!(EXTENSION_VERSION Ro &[Field::number("major", 31, 16), Field::number("minor", 15, 0)]),
        register!(BUILD Ro &[
            Field::number("initiation_interval", 23, 16),
            Field::number("windows", 15, 8),
            Field::number("window_bits", 7, 0),
        ]),
        register!(SCALAR_DEPTH Ro),
        register!(POINT_DEPTH Ro),
        register!(CLOCK_KHZ Ro),
        register!(QUEUE_DEPTH Ro &[Field::number("results", 15, 8), Field::number("tasks", 7, 0)]),
        register!(MAX_ELEMENTS Ro),
        register!(CTRL Wo flags!(Ctrl)),
        register!(STATUS Ro flags!(Status)),
        register!(ERRORS Rw1c flags!(Errors)),
        register!(MODE Rw flags!(Mode)),
        register!(LABEL Rw),
        register!(IRQ_ENABLE Rw flags!(Irq)),
        register!(IRQ_STATUS Rw1c flags!(Irq)),
        register!(WATCHDOG Rw),
        register!(FREE_SCALARS Ro),
        register!(FREE_POINTS Ro),
        register!(PUSHED_SCALARS Ro).pair(),
        register!(PUSHED_POINTS Ro).pair(),
        register!(CONSUMED_SCALARS Ro).pair(),
        register!(CONSUMED_POINTS Ro).pair(),
        register!(CYCLES Ro).pair(),
        register!(CORE_BUSY Ro).pair(),
        register!(STARVE_SCALAR Ro).pair(),
        register!(STARVE_POINT Ro).pair(),
        register!(STARVE_BOTH Ro).pair(),
        register!(STALL_SCALAR Ro).pair(),
        register!(STALL_POINT Ro).pair(),
        register!(REFUSED_WRITES Ro),
        register!(HIGH_WATER_SCALARS Ro),
        register!(HIGH_WATER_POINTS Ro),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::REGISTER_SPACE;

    fn all() -> Vec<Block> {
        let mut blocks = Block::of_core(4, 4);
        blocks.push(Block::msm());
        blocks
    }

    #[test]
    fn registers_are_ordered_and_do_not_overlap() {
        for block in all() {
            let mut end = 0;
            for register in block.registers {
                assert!(register.offset.is_multiple_of(4) && register.offset >= end, "{register:?}");
                end = register.offset + 4 * register.count * if register.pair { 2 } else { 1 };
            }
            let room = if block.space == Space::Xdma { 0x100 } else { 0x1000 };
            assert!(end <= room, "{}", block.name);
        }
        let bases: Vec<_> = Block::of_core(4, 4).iter().map(|block| block.base).collect();
        assert!(bases.is_sorted() && bases.iter().all(|&base| u64::from(base) < REGISTER_SPACE));
        assert_eq!(bases.len(), 4 * 4 + 3);
    }

    #[test]
    fn fields_have_names_and_do_not_overlap() {
        for register in all().iter().flat_map(|block| block.registers) {
            let mut seen = 0;
            for field in register.fields {
                assert!(field.mask != 0 && seen & field.mask == 0 && !field.name.is_empty(), "{register:?}");
                seen |= field.mask;
            }
        }
    }

    #[test]
    fn only_the_clearing_alias_changes_when_read() {
        let changed = all().into_iter().flat_map(|block| block.registers);
        let names: Vec<_> = changed.filter(|r| r.access == Access::Rc).map(|r| r.name).collect();
        assert_eq!(names, ["STATUS_RC"; 8]);
    }

    /// Compares with literals from PG195 instead of the constants.
    #[test]
    fn values_are_decoded_as_in_the_manual() {
        let blocks = Block::of_core(1, 1);
        let find = |block: &str, name: &str| {
            let block = blocks.iter().find(|b| b.name == block).unwrap();
            let register = block.registers.iter().find(|r| r.name == name).unwrap();
            (block.base + register.offset, register.fields)
        };
        let (address, fields) = find("c2h0", "STATUS");
        assert_eq!(address, 0x1040);
        let set: Vec<_> = fields.iter().filter(|f| f.of(0x0008_0011) != 0).map(|f| f.name).collect();
        assert_eq!(set, ["BUSY", "MAGIC_STOPPED", "DESC_UNSUPPORTED_REQUEST"]);
        let (address, fields) = find("h2c0", "ALIGNMENTS");
        assert_eq!(
            (address, fields.iter().map(|f| f.of(0x0001_0140)).collect::<Vec<_>>()),
            (0x4c, vec![1, 1, 64])
        );
        let (address, fields) = find("config", "MAX_READ_REQUEST");
        assert_eq!((address, fields[0].bytes.unwrap()(fields[0].of(2))), (0x300c, 512));
        let (address, fields) = find("sgdma_common", "CREDIT_ENABLE");
        assert_eq!((address, fields[1].of(0x000f_0000)), (0x6020, 15));
        assert_eq!(find("c2h0_sgdma", "CREDITS").0, 0x508c);
    }

    proptest::proptest! {
        /// Every bit of a field is shown exactly once.
        #[test]
        fn values_are_the_sum_of_their_fields(value in proptest::prelude::any::<u32>()) {
            for register in all().iter().flat_map(|block| block.registers).filter(|r| !r.fields.is_empty()) {
                let mask = register.fields.iter().fold(0, |mask, field| mask | field.mask);
                let part = |field: &Field| u64::from(field.of(value)) << field.mask.trailing_zeros();
                let sum: u64 = register.fields.iter().map(part).sum();
                proptest::prop_assert_eq!(sum, u64::from(value & mask), "{}", register.name);
            }
        }
    }
}
