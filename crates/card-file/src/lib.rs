//! `card.toml`: the description of an XDMA card. The emulated card is built from it, `xdma survey` writes it from a real card,
//! and the tools read it where a card cannot describe itself.
//!
//! ```
//! use xdma_card_file::CardFile;
//!
//! # fn main() -> Result<(), xdma_card_file::Error> {
//! let card = CardFile::shipped("7-series").expect("a shipped card");
//! assert_eq!(card.core.data_width, 64);
//! let text = card.to_toml();
//! assert_eq!(text.parse::<CardFile>()?, card);
//! # Ok(())
//! # }
//! ```
//!
//! # The format
//!
//! A file has all keys of the tables below, except those with a default. Unknown keys are refused, so that a misspelled key is
//! not ignored. Numbers are integers or strings (`"0x1d0f"`); sizes are strings with a unit (`"64K"`, `"128G"`) or integers, in
//! bytes. A key whose type is a [`Setting`] can be `"unknown"`. The emulated card then behaves as the documentation of the key
//! states.
//!
//! | table | what it describes |
//! |---|---|
//! | (top) | [`CardFile`]: `format` (always 1), `name`, `notes` |
//! | `[function]` | [`Function`]: identifiers, class, reset, interrupts |
//! | `[function.msix]`, `[function.link]` | [`Msix`], [`Link`] |
//! | `[[bar]]` | [`Bar`]: one table for each BAR |
//! | `[core]`, `[core.versions]` | [`Core`], [`Versions`]: the XDMA core |
//! | `[channels]`, `[channels.fixed_address]` | [`Channels`], [`Alignment`] |
//! | `[switches]` | [`Switches`]: behaviour that no manual specifies |
//! | `[shell]` | [`Shell`]: AWS's F2 shell |
//! | `[logic]` | [`Logic`]: what is behind the core |
//!
//! [`SHIPPED`] lists the descriptions that are part of this crate. None was surveyed on silicon: they were put together from
//! public sources, which their `notes` name.

#![deny(missing_docs)]

mod check;
mod number;
mod setting;
mod shipped;

pub use check::Error;
pub use number::Bytes;
pub use setting::Setting;
pub use shipped::SHIPPED;

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The version of the format.
pub const FORMAT: u32 = 1;

/// The description of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardFile {
    /// The version of the format: [`FORMAT`].
    pub format: u32,
    /// A human-readable name of the card.
    pub name: String,
    /// Where the description comes from, and what else is worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The PCI function.
    pub function: Function,
    /// The BARs that exist, in ascending order.
    #[serde(rename = "bar")]
    pub bars: Vec<Bar>,
    /// The XDMA core.
    pub core: Core,
    /// The core's channels.
    pub channels: Channels,
    /// Behaviour that no manual specifies.
    #[serde(default)]
    pub switches: Switches,
    /// AWS's F2 shell, for cards with [such](Holds::Interrupts) a shell.
    #[serde(default, skip_serializing_if = "Shell::is_unknown")]
    pub shell: Shell,
    /// What is behind the core.
    #[serde(default)]
    pub logic: Logic,
}

/// A PCI function: its identifiers and capabilities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Vendor identifier.
    #[serde(with = "number::hex4")]
    pub vendor: u16,
    /// Device identifier.
    #[serde(with = "number::hex4")]
    pub device: u16,
    /// Subsystem vendor identifier.
    #[serde(with = "number::hex4")]
    pub subsystem_vendor: u16,
    /// Subsystem identifier.
    #[serde(with = "number::hex4")]
    pub subsystem: u16,
    /// Class code, 24 bits: class, subclass, programming interface.
    #[serde(with = "number::hex6")]
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Whether the function can be reset (FLReset in the PCI Express capability).
    pub reset: bool,
    /// The legacy interrupt pin.
    pub intx: Intx,
    /// The number of MSI vectors: 1, 2, 4, 8, 16 or 32, or 0 without the capability.
    pub msi_vectors: u8,
    /// The MSI-X capability, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msix: Option<Msix>,
    /// The largest payload that the function supports, in bytes: 128 to 4096.
    pub max_payload: u32,
    /// The PCI Express link.
    pub link: Link,
}

/// The legacy interrupt pin of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intx {
    /// No pin.
    #[serde(rename = "none")]
    None,
    /// INTA#.
    A,
    /// INTB#.
    B,
    /// INTC#.
    C,
    /// INTD#.
    D,
}

impl Intx {
    /// Returns the value of the Interrupt Pin register.
    pub const fn pin(self) -> u8 {
        self as u8
    }

    /// Returns the pin with this value of the Interrupt Pin register.
    pub const fn of(pin: u8) -> Self {
        match pin {
            1 => Self::A,
            2 => Self::B,
            3 => Self::C,
            4 => Self::D,
            _ => Self::None,
        }
    }
}

/// The MSI-X capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Msix {
    /// The number of vectors, 1 to 2048.
    pub vectors: u16,
    /// The BAR with the vector table and the pending bits.
    pub bar: usize,
    /// The offset of the vector table.
    #[serde(with = "number::hex4")]
    pub table: u32,
    /// The offset of the pending bits.
    #[serde(with = "number::hex4")]
    pub pending: u32,
}

/// A PCI Express link: its state, and the maximum that the card supports. Each value is 0 if the function does not report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Generation: 1 = 2.5 GT/s, 2 = 5 GT/s, 3 = 8 GT/s, 4 = 16 GT/s, 5 = 32 GT/s, 6 = 64 GT/s.
    pub generation: u8,
    /// Number of lanes.
    pub lanes: u8,
    /// Highest generation that the card supports.
    pub max_generation: u8,
    /// Highest number of lanes that the card supports.
    pub max_lanes: u8,
}

/// A base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Its number, 0 to 5.
    pub index: usize,
    /// Its size in bytes: a power of two.
    #[serde(with = "number::size")]
    pub size: u64,
    /// Width of its addresses in bits: 32, or 64, which occupies the next register too.
    pub width: u8,
    /// Whether it is prefetchable.
    pub prefetchable: bool,
    /// What it holds. If unknown, reads of the emulated card's BAR return all ones, and writes are dropped.
    #[serde(default)]
    pub holds: Setting<Holds>,
    /// In the BAR that holds the core's registers: the offset from which on it holds the user logic's registers. Default: none
    /// are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_offset: Option<Bytes>,
    /// Number of bytes at its end that do not respond. If unknown, 0.
    #[serde(default)]
    pub reserved: Setting<Bytes>,
}

/// What a BAR holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// The registers of the XDMA core.
    Registers,
    /// The registers of the user logic (AXI-Lite).
    User,
    /// The card's memory (the "DMA bypass" port).
    Memory,
    /// A second block of XDMA registers, which only delivers interrupts, as in AWS's F2 shell. Its enable mask and vector numbers
    /// decide which of the core's 16 interrupt lines become messages. Its identifiers announce one channel in each direction,
    /// which moves no data.
    Interrupts,
}

/// The XDMA core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Core {
    /// Width of the data path in bits: 64, 128, 256 or 512.
    pub data_width: u32,
    /// The value of the System ID register.
    #[serde(with = "number::hex4")]
    pub system_id: u16,
    /// The versions of its blocks.
    pub versions: Versions,
}

/// The version in each block's identifier register: 1 = 2015.3, 2 = 2016.1, 3 = 2016.2, 4 = 2016.3, 5 = 2016.4, 6 = 2017.1 and
/// later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// H2C channels; 0 if there are none.
    pub h2c: u8,
    /// C2H channels; 0 if there are none.
    pub c2h: u8,
    /// The interrupt block.
    pub irq: u8,
    /// The configuration block.
    pub config: u8,
    /// Descriptor fetch of the H2C channels; 0 if there are none.
    pub h2c_sgdma: u8,
    /// Descriptor fetch of the C2H channels; 0 if there are none.
    pub c2h_sgdma: u8,
    /// The common block of descriptor fetch.
    pub sgdma_common: u8,
}

/// The channels of a core. They are numbered from 0 in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    /// Number of host-to-card channels, 0 to 4.
    pub h2c: usize,
    /// Number of card-to-host channels, 0 to 4.
    pub c2h: usize,
    /// The interface to the user logic.
    pub interface: Interface,
    /// Width of addresses in bits, as in the register Alignments.
    pub address_bits: u8,
    /// Alignment of addresses and granularity of lengths, as in the register Alignments.
    pub alignment: Alignment,
    /// The same in fixed-address mode. Default, and if unknown: the width of the data path.
    #[serde(default)]
    pub fixed_address: Setting<Alignment>,
    /// Whether the channels count descriptor credits. If not, the credit register reads 0, and fetching never waits for credits.
    /// Stream channels of the emulated card always count them. If unknown, its other channels do too.
    #[serde(default)]
    pub credits: Setting<bool>,
}

/// The interface between core and user logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// AXI, memory-mapped.
    MemoryMapped,
    /// AXI-Stream.
    Stream,
}

/// Alignment rules of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alignment {
    /// Alignment of addresses in bytes.
    pub address: u8,
    /// Granularity of lengths in bytes.
    pub length: u8,
}

/// Behaviour that neither PG195 nor a published measurement determines. A driver must work with every value.
///
/// The emulated card gives an unknown switch the value on which existing drivers rely, or else the one that the wording of PG195
/// makes most likely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// Whether BUSY reads 1 while the engine waits for credits or for a halted fetch to resume. If unknown, no: BUSY means that
    /// descriptors or requests are outstanding (PG344, "Initial Debug of the XDMA").
    pub busy_without_credits: Setting<bool>,
    /// The delay from the write-back of the descriptor with Stop to the fall of BUSY, in microseconds. If unknown, none: BUSY
    /// falls before the write-back.
    pub busy_lag_us: Setting<u32>,
    /// Whether a descriptor with Stop clears the Run bit. If unknown, no: Run stays as software left it.
    pub stop_clears_run: Setting<bool>,
    /// Whether an error whose `ie` bit is clear stops the engine. If unknown, no: the engine continues as if nothing had
    /// happened. A bad magic number and a refused fetch stop it in any case.
    pub unlogged_errors_stop: Setting<bool>,
    /// Whether an error that stops the engine writes back the count with bit 31 set. If unknown, no, as observed on hardware for
    /// a refused fetch.
    pub error_write_back: Setting<bool>,
    /// Whether descriptor requests end at multiples of the maximum read request size, so that a block of adjacent descriptors may
    /// cross 4 KiB, which PG195 forbids. If unknown, yes: AWS's driver relies on it. If no, such a request wraps inside its page.
    pub aligned_fetch: Setting<bool>,
    /// Whether clearing Run ends a C2H stream descriptor that has not received any data. If unknown, yes: the vendor's module
    /// relies on it at the end of a packet, and another driver for streams that never end. If no, BUSY stays set until data
    /// arrives.
    pub stop_ends_idle_stream: Setting<bool>,
    /// Whether the size of C2H stream buffers may be a multiple of the data path's width instead of 64 bytes. The reported length is then
    /// rounded up to that width. If unknown, no (PG195, "DMA C2H Stream").
    pub narrow_stream_buffers: Setting<bool>,
}

impl Switches {
    /// Returns these switches, with the values of `other` for those that are unknown.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            busy_without_credits: self.busy_without_credits.or_else(other.busy_without_credits),
            busy_lag_us: self.busy_lag_us.or_else(other.busy_lag_us),
            stop_clears_run: self.stop_clears_run.or_else(other.stop_clears_run),
            unlogged_errors_stop: self.unlogged_errors_stop.or_else(other.unlogged_errors_stop),
            error_write_back: self.error_write_back.or_else(other.error_write_back),
            aligned_fetch: self.aligned_fetch.or_else(other.aligned_fetch),
            stop_ends_idle_stream: self.stop_ends_idle_stream.or_else(other.stop_ends_idle_stream),
            narrow_stream_buffers: self.narrow_stream_buffers.or_else(other.narrow_stream_buffers),
        }
    }
}

/// What sources leave open, or contradict each other about, in AWS's F2 shell. Only the simulated engine is affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shell {
    /// The number of reads of host memory that can be under way, 1 to 256. If unknown, 32 (AWS-Shell-ERRATA). AWS's own engine is
    /// built for 64.
    pub outstanding_reads: Setting<u32>,
    /// Whether a read waits while one with the same ID is under way. If unknown, no: AWS's own engine uses one ID, though
    /// AWS-Shell-ERRATA calls that unsupported.
    pub one_read_per_id: Setting<bool>,
    /// Whether a pulse on an interrupt line that is masked is acknowledged. If unknown, no, as seen on F1.
    pub ack_masked: Setting<bool>,
    /// The largest payload that the shell reports to the custom logic, in bytes: 128, 256, 512 or 1024. If unknown, the one in
    /// Device Control.
    pub reported_payload: Setting<u32>,
}

impl Shell {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// What is behind the core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logic {
    /// The design. If unknown, the emulated card has memory behind memory-mapped channels, and loops streams back.
    #[serde(default)]
    pub design: Setting<Design>,
    /// The ranges of card addresses at which memory answers; used by [`Design::Memory`]. If unknown: 64 GiB from address 0.
    #[serde(default)]
    pub memory: Setting<Vec<MemoryRange>>,
}

/// A design that the emulator has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// The MSM design.
    Msm,
    /// Memory.
    Memory,
    /// A loop from each H2C stream to the C2H stream of the same number.
    Loopback,
}

/// A range of card addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRange {
    /// First address.
    #[serde(with = "number::hex8")]
    pub address: u64,
    /// Size in bytes.
    #[serde(with = "number::size")]
    pub size: u64,
}

impl CardFile {
    /// Returns a description that is part of this crate, by its name in [`SHIPPED`].
    pub fn shipped(name: &str) -> Option<Self> {
        shipped::find(name)
    }

    /// Returns the description of an AWS F1 card.
    pub fn f1() -> Self {
        shipped::parse(SHIPPED[0].1)
    }

    /// Returns the description of an endpoint as the vendor's kernel module expects it.
    pub fn alveo() -> Self {
        shipped::parse(SHIPPED[1].1)
    }

    /// Returns the description of an AWS F2 card with an XDMA engine in its custom logic.
    pub fn f2() -> Self {
        shipped::parse(SHIPPED[2].1)
    }

    /// Reads a description from a file.
    ///
    /// # Errors
    ///
    /// [`Error`]: the file cannot be read, or is not a valid description.
    pub fn read(path: &Path) -> Result<Self, Error> {
        read_text(path).map_err(|source| Error::Read { path: path.to_owned(), source })?.parse()
    }

    /// Returns the description as the text of a file.
    ///
    /// # Panics
    ///
    /// Never for a description that [`check`](Self::check) accepts.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("all keys are strings and all numbers are in range")
    }

    /// Checks that the values are possible and consistent with each other.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], which names the key.
    pub fn check(&self) -> Result<(), Error> {
        check::check(self)
    }

    /// Returns the BAR with the core's registers. A description that [`check`](Self::check) accepts has one.
    pub fn register_bar(&self) -> Option<usize> {
        self.bar_with(Holds::Registers)
    }

    /// Returns the first BAR with the user logic's registers.
    pub fn user_bar(&self) -> Option<usize> {
        self.bar_with(Holds::User)
    }

    /// Returns the BAR with the block that only delivers interrupts.
    pub fn interrupt_bar(&self) -> Option<usize> {
        self.bar_with(Holds::Interrupts)
    }

    fn bar_with(&self, holds: Holds) -> Option<usize> {
        self.bars.iter().find(|bar| bar.holds == Setting::Known(holds)).map(|bar| bar.index)
    }

    /// Returns whether the channels are AXI-Stream channels.
    pub fn is_stream(&self) -> bool {
        self.channels.interface == Interface::Stream
    }

    /// Makes the channels AXI-Stream channels that are looped back.
    pub fn set_streams(&mut self) {
        self.channels.interface = Interface::Stream;
        self.logic = Logic { design: Design::Loopback.into(), memory: Setting::Unknown };
    }

    /// Sets the number of channels. Their blocks get the version of the interrupt block.
    pub fn set_channels(&mut self, h2c: usize, c2h: usize) {
        (self.channels.h2c, self.channels.c2h) = (h2c, c2h);
        let versions = &mut self.core.versions;
        let version = |count: usize| if count > 0 { versions.irq } else { 0 };
        let (h2c, c2h) = (version(h2c), version(c2h));
        (versions.h2c, versions.h2c_sgdma, versions.c2h, versions.c2h_sgdma) = (h2c, h2c, c2h, c2h);
    }

    /// Returns the width of the data path in bytes.
    pub fn beat(&self) -> u64 {
        u64::from(self.core.data_width / 8)
    }

    /// Returns the alignment rules in fixed-address mode.
    pub fn fixed_alignment(&self) -> Alignment {
        let beat = self.beat() as u8;
        self.channels.fixed_address.or(Alignment { address: beat, length: beat })
    }
}

impl FromStr for CardFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        check::check_format(text)?;
        let card: Self = toml::from_str(text).map_err(|error| Error::Parse(Box::new(error)))?;
        card.check()?;
        Ok(card)
    }
}

/// Reads a regular file of at most [`MAX_FILE_BYTES`].
fn read_text(path: &Path) -> io::Result<String> {
    // Before the file is opened, which would wait for the other end of a FIFO.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("it is not a regular file of at most 1 MiB"));
    }
    io::read_to_string(File::open(path)?)
}
