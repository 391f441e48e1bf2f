//! What a simulated engine alone and the simulated image for F2 have in common: the description of the engine, and the faults that are
//! injected into its host port and its messages. The engine sees them as AXI responses, or not at all.

use super::channel::Shared;
use super::faults::{InjectionPoint, Kind};
use super::log::{ChannelId, DmaFault, DmaFaultReason, Purpose};
use std::sync::Arc;
use xdma_card_file::{CardFile, Channels};
use xdma_regs::{Direction, irq};

/// The addresses of the registers with the channels' vectors.
const VECTORS: [u32; 2] = [0x2000 + irq::CHANNEL_VECTORS, 0x2004 + irq::CHANNEL_VECTORS];

/// Replaces the parts of a card's description that the engine determines. The description of F2 describes the same engine.
pub(super) fn describe(card: CardFile, [h2c, c2h]: [usize; 2]) -> CardFile {
    let CardFile { core, switches, channels, .. } = CardFile::f2();
    let channels = Channels { h2c, c2h, interface: card.channels.interface, ..channels };
    CardFile { core, switches, channels, ..card }
}

/// The clients of the engine's host port.
pub(super) struct Clients {
    shared: Arc<Shared>,
}

impl Clients {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// Returns what a client of the port transfers, and for which channel. Clients are the payload of one direction, then the
    /// descriptors or write-backs of all channels, H2C first.
    fn find(&self, id: u8, write: bool) -> (Purpose, ChannelId) {
        let Channels { h2c, c2h, .. } = self.shared.options.card.channels;
        let (payload, direction) = if write { (c2h, Direction::C2H) } else { (h2c, Direction::H2C) };
        let purpose = if write { Purpose::WriteBack } else { Purpose::Fetch };
        let id = usize::from(id);
        match id.checked_sub(payload) {
            None => (Purpose::Payload, ChannelId { direction, index: id }),
            Some(index) if index < h2c => (purpose, ChannelId { direction: Direction::H2C, index }),
            Some(number) => (purpose, ChannelId { direction: Direction::C2H, index: number - h2c }),
        }
    }

    /// Returns whether an injected fault hits a burst of a client: a read fails, and a write is lost.
    pub fn is_hit(&self, id: u8, write: bool) -> bool {
        let (purpose, channel) = self.find(id, write);
        let point = match purpose {
            Purpose::Fetch => InjectionPoint::Fetch,
            Purpose::WriteBack => InjectionPoint::WriteBack,
            _ if write => InjectionPoint::HostWrite,
            _ => InjectionPoint::HostRead,
        };
        self.shared.faults.fault_at(point, Some(channel)).is_some()
    }

    /// Returns whether an injected fault removes the magic numbers of a beat of descriptors.
    pub fn is_without_magic(&self, id: u8) -> bool {
        let (purpose, channel) = self.find(id, false);
        purpose == Purpose::Fetch
            && self.shared.faults.fault_at(InjectionPoint::Descriptor, Some(channel)).is_some()
    }

    /// Logs an access that an IOMMU refused.
    pub fn refused(&self, iova: u64, reason: DmaFaultReason, write: bool, id: u8) {
        let (purpose, channel) = self.find(id, write);
        self.shared.log.dma_fault(DmaFault { iova, write, purpose, reason, channel });
    }
}

/// The messages of the engine's channels.
pub(super) struct Messages {
    shared: Arc<Shared>,
    /// The vectors of the channels, as software wrote them.
    vectors: [u32; 2],
}

impl Messages {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), vectors: [0; 2] }
    }

    /// Notes a register write that may assign vectors.
    pub fn register_written(&mut self, address: u32, value: u32) {
        if let Some(at) = VECTORS.iter().position(|&at| at == address) {
            self.vectors[at] = value;
        }
    }

    /// Forgets the vectors, as a reset does.
    pub fn reset(&mut self) {
        self.vectors = [0; 2];
    }

    /// Returns whether an injected fault drops the message of a line.
    pub fn is_lost(&self, line: usize) -> bool {
        let faults = &self.shared.faults;
        if !faults.is_armed() {
            return false;
        }
        let Channels { h2c, c2h, .. } = self.shared.options.card.channels;
        let of = |direction, count| (0..count).map(move |index| ChannelId { direction, index });
        let channels = of(Direction::H2C, h2c).chain(of(Direction::C2H, c2h));
        let vector = |number: usize| self.vectors[number / 4].to_le_bytes()[number % 4];
        let mut these = channels.enumerate().filter(|(number, _)| usize::from(vector(*number)) == line);
        these.any(|(_, id)| faults.fault_at(InjectionPoint::Interrupt, Some(id)) == Some(Kind::InterruptLost))
    }
}
