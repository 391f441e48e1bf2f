//! The description of a card and its capabilities.

use super::identify::Layout;
use super::{CardError, Interrupts, Link, quiesce};
use crate::bus::{Bar, Bus, Description};
use crate::memory::{CallerMemory, DmaSpace};
use crate::regs::channel::{ALIGNMENTS, Alignments};
use crate::regs::{Direction, GONE, Identifier, Target, config};
use std::fmt;

/// The description of a channel, read from its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelReport {
    /// Its direction.
    pub direction: Direction,
    /// Its number.
    pub index: usize,
    /// Its identifier: memory-mapped or AXI-Stream, and the core's version.
    pub identifier: Identifier,
    /// Its alignment requirements.
    pub alignments: Alignments,
}

/// The description of a card and its capabilities. `Display` prints it in a few lines.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use xdma::card::CardOptions;
/// use xdma::regs::Direction;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let report = card.report()?;
/// println!("{report}");
/// assert!(report.count(Direction::H2C) >= 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The bus through which the card is reached.
    pub bus: Description,
    /// PCI vendor ID.
    pub vendor: u16,
    /// PCI device ID.
    pub device: u16,
    /// Index of the BAR with the XDMA registers.
    pub register_bar: usize,
    /// Index of the BAR with the user logic's registers.
    pub user_bar: Option<usize>,
    /// Offset of the user logic's registers in that BAR, in bytes. It is 0 unless the BAR also holds the XDMA registers.
    pub user_offset: u64,
    /// Index of the BAR with the interrupt block of an AWS F2 shell, through which all interrupts go.
    pub interrupt_bar: Option<usize>,
    /// How interrupts are delivered, if the program uses any.
    pub interrupts: Interrupts,
    /// The channels that exist, H2C first.
    pub channels: Vec<ChannelReport>,
    /// Width of the data path in bytes: 8, 16, 32 or 64.
    pub data_width: u32,
    /// Negotiated maximum payload size in bytes.
    pub max_payload: u32,
    /// Maximum read request size in bytes.
    pub max_read_request: u32,
    /// The PCI Express link: its current state, and the maximum that the card supports.
    pub link: Option<(Link, Link)>,
    /// Whether memory that the caller allocated is pinned in place or staged.
    pub caller_memory: CallerMemory,
    /// The base of this card's device addresses, if the driver chooses them.
    pub address_base: Option<u64>,
    /// Whether buffers are in small pages because no hugepages were free.
    pub small_pages: bool,
}

impl Report {
    pub(super) fn read(
        bus: &dyn Bus,
        registers: &dyn Bar,
        layout: &Layout,
        space: &DmaSpace,
    ) -> Result<Self, CardError> {
        let read = |address: u32| match registers.read32(address.into())? {
            GONE => Err(CardError::Gone { what: "a configuration register" }),
            value => Ok(value),
        };
        let config = |register: u32| read(Target::Config.base(0) + register);
        let channel = |(direction, index, identifier)| -> Result<_, CardError> {
            let alignments = Alignments(read(Target::channel(direction).base(index) + ALIGNMENTS)?);
            Ok(ChannelReport { direction, index, identifier, alignments })
        };
        let channels: Vec<_> =
            quiesce::channels(registers)?.into_iter().map(channel).collect::<Result<_, _>>()?;
        let sources = channels.len() + layout.user_lines(channels.len());
        Ok(Self {
            bus: bus.description().clone(),
            vendor: layout.vendor,
            device: layout.device,
            register_bar: layout.register_bar,
            user_bar: layout.user.map(|user| user.bar),
            user_offset: layout.user.map_or(0, |user| user.offset),
            interrupt_bar: layout.interrupt_bar,
            interrupts: Interrupts::of(bus.description(), sources),
            channels,
            data_width: config::data_width_bytes(config(config::DATA_WIDTH)?),
            max_payload: config::size_bytes(config(config::MAX_PAYLOAD)?),
            max_read_request: config::size_bytes(config(config::MAX_READ_REQUEST)?),
            link: Link::read(bus)?,
            caller_memory: space.caller_memory(),
            address_base: space.base(),
            small_pages: space.fell_back(),
        })
    }

    /// Returns the number of channels of a direction.
    pub fn count(&self, direction: Direction) -> usize {
        self.channels.iter().filter(|c| c.direction == direction).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bus, vendor, device, register_bar, data_width, max_payload, max_read_request, .. } = self;
        let (h2c, c2h) = (self.count(Direction::H2C), self.count(Direction::C2H));
        writeln!(f, "{vendor:04x}:{device:04x} over {} at {}", bus.kind, bus.location)?;
        writeln!(
            f,
            "XDMA in BAR{register_bar}: {h2c} H2C and {c2h} C2H channels, {}-bit data path",
            data_width * 8
        )?;
        write!(
            f,
            "payload {max_payload}, read request {max_read_request} bytes; interrupts: {}; ",
            self.interrupts
        )?;
        writeln!(f, "function reset: {}", if bus.resettable { "yes" } else { "no" })?;
        if let Some((now, best)) = self.link {
            writeln!(f, "link {now}, the card supports {best}")?;
        }
        match bus.page_sizes {
            0 => write!(f, "physical addresses")?,
            sizes => write!(f, "{}-bit device addresses, pages of {}", bus.iova_bits, page_list(sizes))?,
        }
        if let Some(base) = self.address_base {
            write!(f, ", starting at {base:#x}")?;
        }
        match bus.node {
            Some(node) => writeln!(f, ", NUMA node {node}")?,
            None => writeln!(f)?,
        }
        match self.caller_memory {
            CallerMemory::Pinned => write!(f, "caller's memory: pinned in place")?,
            CallerMemory::Staged(why) => write!(f, "caller's memory: staged ({why})")?,
        }
        if self.small_pages {
            write!(f, "\nno 2 MiB hugepages were free: buffers are in small pages")?;
        }
        bus.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

/// Formats `0x40201000` as `4K, 2M, 1G`. Of more than four sizes, only the smallest is named: some kernels report every power of
/// two.
fn page_list(sizes: u64) -> String {
    let name = |bit: u32| match bit {
        0..10 => format!("{}", 1u64 << bit),
        10..20 => format!("{}K", 1u64 << (bit - 10)),
        20..30 => format!("{}M", 1u64 << (bit - 20)),
        _ => format!("{}G", 1u64 << (bit - 30)),
    };
    let bits: Vec<u32> = (0..64).filter(|bit| sizes >> bit & 1 != 0).collect();
    match bits[..] {
        [] => String::new(),
        [first, ..] if bits.len() > 4 => format!("{} and more", name(first)),
        _ => bits.iter().map(|&bit| name(bit)).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::page_list;

    #[test]
    fn page_sizes_are_formatted() {
        assert_eq!(page_list(0x4020_1000), "4K, 2M, 1G");
        assert_eq!(page_list(!0xfff), "4K and more");
        assert_eq!((page_list(0), page_list(1 << 9)), (String::new(), "512".into()));
    }
}
