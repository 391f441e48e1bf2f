//! What a card is and can do.

use super::identify::Layout;
use super::{CardError, quiesce};
use crate::bus::{Bar, Bus, Description};
use crate::memory::{CallerMemory, DmaSpace};
use crate::regs::channel::{ALIGNMENTS, Alignments};
use crate::regs::{Direction, GONE, Identifier, Target, config};
use std::fmt;

/// A card's description. `Display` prints it in a few lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The way to the card and what it offers.
    pub bus: Description,
    /// PCI vendor.
    pub vendor: u16,
    /// PCI device.
    pub device: u16,
    /// Which BAR has the XDMA registers.
    pub register_bar: usize,
    /// Which BAR has the user logic's registers.
    pub user_bar: Option<usize>,
    /// Channels that exist, with their identifiers.
    pub channels: Vec<(Direction, usize, Identifier)>,
    /// What the first channel says of alignment.
    pub alignments: Alignments,
    /// Bytes of the data path: 8, 16, 32 or 64.
    pub data_width: u32,
    /// Negotiated maximum payload, in bytes.
    pub max_payload: u32,
    /// Maximum read request, in bytes.
    pub max_read_request: u32,
    /// What happens to memory that the caller allocated.
    pub caller_memory: CallerMemory,
    /// Whether memory had to come in small pages because no hugepages were free.
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
        let channels = quiesce::channels(registers)?;
        let alignments = match channels.first() {
            Some(&(direction, channel, _)) => read(Target::channel(direction).base(channel) + ALIGNMENTS)?,
            None => 0,
        };
        Ok(Self {
            bus: bus.description().clone(),
            vendor: layout.vendor,
            device: layout.device,
            register_bar: layout.register_bar,
            user_bar: layout.user_bar,
            channels,
            alignments: Alignments(alignments),
            data_width: config::data_width_bytes(config(config::DATA_WIDTH)?),
            max_payload: config::size_bytes(config(config::MAX_PAYLOAD)?),
            max_read_request: config::size_bytes(config(config::MAX_READ_REQUEST)?),
            caller_memory: space.caller_memory(),
            small_pages: space.fell_back(),
        })
    }

    /// How many channels of a direction there are.
    pub fn count(&self, direction: Direction) -> usize {
        self.channels.iter().filter(|c| c.0 == direction).count()
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
            "payload {max_payload}, read request {max_read_request} bytes; {} MSI-X vectors; ",
            bus.vectors
        )?;
        writeln!(f, "function reset: {}", if bus.resettable { "yes" } else { "no" })?;
        match self.caller_memory {
            CallerMemory::Pinned => write!(f, "caller's memory: pinned in place")?,
            CallerMemory::Staged(why) => write!(f, "caller's memory: staged ({why})")?,
        }
        if self.small_pages {
            write!(f, "\nno 2 MiB hugepages were free: buffers lie in small pages")?;
        }
        Ok(())
    }
}
