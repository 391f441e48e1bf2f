//! A card as a set of device files.

use crate::bars::Bars;
use crate::dma::DmaChannel;
use crate::events::Events;
use crate::node::{Node, pci_number};
use crate::registers::Registers;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use xdma::card::{BusError, Card, CardError, Report};
use xdma::regs::Direction;

/// Options of a [`Device`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Timeout of a transfer to the card (`h2c_timeout` of the kernel module). Zero means no timeout.
    pub h2c_timeout: Duration,
    /// Timeout of a transfer from the card (`c2h_timeout`). Zero means no timeout.
    pub c2h_timeout: Duration,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self { h2c_timeout: Duration::from_secs(10), c2h_timeout: Duration::from_secs(10) }
    }
}

/// Why a card cannot be served as device files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The card's report could not be created.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A BAR could not be used.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A card as a set of device files.
#[derive(Debug)]
pub struct Device {
    card: Card,
    pub(crate) report: Report,
    pub(crate) control: Registers,
    pub(crate) user: Option<Registers>,
    pub(crate) bars: Bars,
    pub(crate) events: Events,
    /// Set by `XDMA_IOCOFFLINE` and cleared by `XDMA_IOCONLINE`.
    pub(crate) offline: AtomicBool,
    /// Set when the broker ends, so that transfers in progress also end.
    pub(crate) closing: Arc<AtomicBool>,
    /// The channels of each direction, by their index.
    channels: [Vec<DmaChannel>; 2],
}

impl Device {
    /// Prepares the device files of a card. Channels are opened on first use.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the card's report cannot be created or a BAR cannot be accessed.
    pub fn new(card: Card, options: DeviceOptions) -> Result<Self, DeviceError> {
        let report = card.report()?;
        let user = match xdma::unstable::card::user(&card) {
            Err(CardError::NoUserBar) => None,
            user => Some(Registers::new(user?)),
        };
        let closing = Arc::<AtomicBool>::default();
        let channels = |direction, timeout| {
            let channels = report.channels.iter().filter(move |channel| channel.direction == direction);
            // A card numbers the channels of a direction from 0.
            let channels = channels.enumerate().take_while(|(number, channel)| channel.index == *number);
            channels
                .map(|(_, channel)| DmaChannel::new(card.clone(), channel, timeout, closing.clone()))
                .collect()
        };
        Ok(Self {
            control: Registers::new(xdma::unstable::card::registers(&card)),
            user,
            bars: Bars::new(card.clone(), &report),
            events: Events::new(&card),
            offline: AtomicBool::new(false),
            closing: closing.clone(),
            channels: [
                channels(Direction::H2C, options.h2c_timeout),
                channels(Direction::C2H, options.c2h_timeout),
            ],
            report,
            card,
        })
    }

    /// Returns the device files that the card has.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        Node::all().filter(|node| self.has(*node))
    }

    /// Returns whether the card has the file `node`.
    pub fn has(&self, node: Node) -> bool {
        match node {
            Node::User => self.user.is_some(),
            Node::Control => true,
            Node::Events(line) => self.events.has(line),
            Node::H2c(_) | Node::C2h(_) => self.channel(node).is_some(),
            Node::Bypass => self.bars.bypass().is_some(),
            Node::BypassH2c(_) | Node::BypassC2h(_) => {
                self.channel(node).is_some() && self.bars.bypass().is_some()
            }
            Node::Resource(bar) => self.bars.get(bar.into()).is_some(),
        }
    }

    pub(crate) fn card(&self) -> &Card {
        &self.card
    }

    #[inline]
    pub(crate) fn channel(&self, node: Node) -> Option<&DmaChannel> {
        let (direction, index) = match node {
            Node::H2c(index) | Node::BypassH2c(index) => (Direction::H2C, index),
            Node::C2h(index) | Node::BypassC2h(index) => (Direction::C2H, index),
            _ => return None,
        };
        self.channels[direction as usize].get(usize::from(index))
    }

    /// Returns [`pci_number`] of the card's address, or `None` if the card has no PCI address.
    pub(crate) fn pci_number(&self) -> Option<u64> {
        self.report.bus.location.parse().ok().map(pci_number)
    }

    /// Returns the size of the file of a BAR in sysfs, or 0 for a device file.
    pub(crate) fn size(&self, node: Node) -> u64 {
        match node {
            Node::Resource(bar) => self.bars.get(bar.into()).map_or(0, |bar| bar.bar().size()),
            _ => 0,
        }
    }
}
