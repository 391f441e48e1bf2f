//! Faults caused on purpose: what happens on the link between host and card that no client can bring about by itself.
//!
//! ```
//! use std::sync::Arc;
//! use xdma::emulator::faults::{BadCompletion, Injection};
//! use xdma::emulator::{ChannelId, EmulatedCard, Options, logic::Memory};
//! use xdma::regs::Direction;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let card = EmulatedCard::start(Options::default(), Arc::new(Memory::new()))?;
//! let channel = ChannelId { direction: Direction::C2H, index: 0 };
//! card.inject(Injection::Fetch(channel, BadCompletion::Poisoned))?;
//! # Ok(())
//! # }
//! ```

use super::log::ChannelId;
use crate::regs::channel::Status;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering};

/// Something that goes wrong.
///
/// What the custom logic may do wrong (errors, no answer, a FIFO that never drains) is the business of a
/// [`Logic`](super::logic::Logic); reads and writes that an IOMMU refuses need only memory that is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Injection {
    /// The channel's next descriptor fetch fails. The engine stops with the error's bit of 23:19 (PG195, "H2C Channel
    /// Status", descriptor_error) and magic_stopped: of a refused fetch hardware was seen to set both, the other kinds
    /// are taken to do the same (unverified).
    Fetch(ChannelId, BadCompletion),
    /// The next read of payload from host memory by this H2C channel fails. The engine stops with the error's bit of
    /// 13:9 (PG195, "H2C Channel Status", read_error) if that is logged. C2H channels only write, and writes are posted:
    /// nobody tells the card what became of them.
    HostRead(usize, BadCompletion),
    /// The link goes down: a surprise removal, a slot without power, an image being loaded. Reads of configuration space
    /// and BARs give all ones, writes are lost, and the function is reset, as by a hot reset (PCI Express Base
    /// Specification, "Transaction Layer Behavior in DL_Down Status"), which ends DMA.
    LinkDown,
    /// The link comes back: the function as after a reset, so with bus mastering off.
    LinkUp,
}

/// What came back for a read of host memory, instead of its data (PG195, "H2C Channel Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BadCompletion {
    /// Nobody feels addressed, or an IOMMU refused (completion status UR).
    UnsupportedRequest,
    /// The completer gave up on the request (completion status CA).
    CompleterAbort,
    /// The data's parity is wrong on the way through the card's own PCIe block.
    Parity,
    /// The completion is marked as poisoned: its sender knows that the data is bad (EP bit of the header).
    Poisoned,
    /// The completion answers no request.
    Unexpected,
}

impl BadCompletion {
    const fn of_fetch(self) -> Status {
        match self {
            Self::UnsupportedRequest => Status::DESC_UNSUPPORTED_REQUEST,
            Self::CompleterAbort => Status::DESC_COMPLETER_ABORT,
            Self::Parity => Status::DESC_PARITY,
            Self::Poisoned => Status::DESC_POISONED,
            Self::Unexpected => Status::DESC_UNEXPECTED_COMPLETION,
        }
    }

    const fn of_host_read(self) -> Status {
        match self {
            Self::UnsupportedRequest => Status::READ_ERROR_0,
            Self::CompleterAbort => Status::READ_ERROR_1,
            Self::Parity => Status::READ_ERROR_2,
            Self::Poisoned => Status::READ_ERROR_3,
            Self::Unexpected => Status::READ_ERROR_4,
        }
    }
}

/// The card has no such channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the card has no channel {0}")]
pub struct UnknownChannel(pub ChannelId);

/// An error that waits to happen once, as the status bits it sets.
#[derive(Debug, Default)]
pub(super) struct Once(AtomicU32);

impl Once {
    fn set(&self, error: Status) {
        self.0.store(error.bits(), Ordering::Release);
    }

    /// The error, if there is one; then there is none.
    pub fn take(&self) -> Option<Status> {
        let waits = self.0.load(Ordering::Relaxed) != 0;
        let error = if waits { self.0.swap(0, Ordering::Acquire) } else { 0 };
        (error != 0).then(|| Status::from_bits_retain(error))
    }
}

/// What waits to happen to a channel.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub fetch: Once,
    pub host_read: Once,
}

impl Waiting {
    pub fn fail_fetch(&self, with: BadCompletion) {
        self.fetch.set(with.of_fetch());
    }

    pub fn fail_host_read(&self, with: BadCompletion) {
        self.host_read.set(with.of_host_read());
    }
}
