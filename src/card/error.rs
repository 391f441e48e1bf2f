use super::Source;
use crate::bus::BusError;
use crate::channel::EngineError;
use crate::memory::MemoryError;
use crate::regs::Direction;

/// What went wrong with a card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A channel failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Memory could not be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The name names no card.
    #[error("`{0}` is not a card: use a PCI address (0000:00:1d.0) or unix:PATH of a vfio-user socket")]
    BadName(String),
    /// There is no memory for the card's statistics.
    #[error("no memory for the card's statistics")]
    Statistics(#[source] std::io::Error),
    /// No BAR has the XDMA identifiers.
    #[error("no XDMA registers on {vendor:04x}:{device:04x}: {reason}")]
    NotXdma {
        /// PCI vendor.
        vendor: u16,
        /// PCI device.
        device: u16,
        /// What was looked at and seen.
        reason: String,
    },
    /// Everything reads all ones.
    #[error("the card is gone: {what} reads all ones; look for it with `lspci`, then open it again")]
    Gone {
        /// What was read.
        what: &'static str,
    },
    /// The Bus Master bit stays set.
    #[error(
        "cannot clear the card's Bus Master bit, so the card may still access host memory; reset the card or reboot the machine"
    )]
    NotCutOff,
    /// The card was opened to be looked at.
    #[error(
        "the card was opened as it was found, only to be looked at; open it without `as_found` to use it"
    )]
    AsFound,
    /// The channel is open already.
    #[error("{direction} channel {channel} is open already; a channel has one owner, close it there first")]
    ChannelTaken {
        /// Direction of the channel.
        direction: Direction,
        /// Its number.
        channel: usize,
    },
    /// No card has so many channels.
    #[error("{direction} channel {channel}: a card has channels 0 to 3 of each direction")]
    ChannelNumber {
        /// Direction of the channel.
        direction: Direction,
        /// The number.
        channel: usize,
    },
    /// The card has fewer MSI-X vectors than channels and user lines, or none.
    #[error("{needed} MSI-X vectors needed, the card has {found}; poll instead")]
    NoInterrupts {
        /// Vectors needed.
        needed: usize,
        /// Vectors that the card has.
        found: u32,
    },
    /// Nothing on the card interrupts so.
    #[error("there is no interrupt of {0}; user lines are 0 to 15")]
    NoSuchInterrupt(Source),
    /// The card has no BAR for user logic.
    #[error("the card has no BAR for user logic; name one in the options if it does")]
    NoUserBar,
    /// An engine stays busy.
    #[error(
        "{direction} channel {channel} does not become idle (status {status:#010x}), {tried}; reset or re-program the card"
    )]
    Hung {
        /// Direction of the channel.
        direction: Direction,
        /// Its number.
        channel: usize,
        /// Its status register.
        status: u32,
        /// What was tried.
        tried: &'static str,
    },
}
