use super::snapshot::{RingState, Snapshot};
use crate::bus::BusError;
use crate::memory::{Access, MAX_JOBS, MemoryError, PageSize};
use crate::regs::{Direction, MAX_CHANNELS};
use crate::stats::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// The error of a function on the hot path: a pointer, so that the result fits in two registers.
pub(super) type Fail = Box<EngineError>;

/// What went wrong with a transfer or a channel.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The bus failed.
    #[error("{cause}{}", after(ring.as_deref()))]
    Bus {
        /// How.
        cause: Arc<BusError>,
        /// The ring then, if it was a channel at work that noticed.
        ring: Option<Box<RingState>>,
    },
    /// The memory cannot be used.
    #[error(transparent)]
    Memory(Arc<MemoryError>),
    /// Registers read all ones.
    #[error(
        "the card is gone: {direction} channel {channel} reads all ones; look for it with `lspci`, then open it again{}",
        after(ring.as_deref())
    )]
    Gone {
        /// Direction of the channel.
        direction: Direction,
        /// Its number.
        channel: usize,
        /// The ring then; there is none yet while a channel is opened.
        ring: Option<Box<RingState>>,
    },
    /// The channel does not exist.
    #[error("there is no {direction} channel {channel} on this card (it reads {identifier:#010x})")]
    NoChannel {
        /// Direction asked for.
        direction: Direction,
        /// Number asked for.
        channel: usize,
        /// What its identifier reads.
        identifier: u32,
    },
    /// The channel is an AXI-Stream one.
    #[error(
        "{direction} channel {channel} is an AXI-Stream one; take it with `Card::stream_h2c` or `Card::stream_c2h`"
    )]
    Stream {
        /// Direction of the channel.
        direction: Direction,
        /// Its number.
        channel: usize,
    },
    /// The channel is a memory-mapped one.
    #[error("{direction} channel {channel} is a memory-mapped one; take it with `Card::h2c` or `Card::c2h`")]
    NotStream {
        /// Direction of the channel.
        direction: Direction,
        /// Its number.
        channel: usize,
    },
    /// No stream can be received with such buffers.
    #[error(
        "{buffers} buffers of {bytes} bytes: a stream is received with 1 to {MAX_JOBS} buffers of 64 to 2^28-64 bytes each, \
         a multiple of 64"
    )]
    BadBuffers {
        /// Buffers asked for.
        buffers: usize,
        /// Bytes of each.
        bytes: u32,
    },
    /// A buffer for a stream does not fit into one page, and pages are not contiguous for the card.
    #[error(
        "a buffer of {bytes} bytes does not fit into a page of {page}, and without an IOMMU pages are scattered: take smaller ones"
    )]
    ScatteredBuffer {
        /// Bytes of a buffer.
        bytes: u32,
        /// The pages that were to be had.
        page: PageSize,
    },
    /// The engine has no buffer to fill, so nothing can come.
    #[error("no buffer is with the engine, so nothing can be received: give some back, or raise `set_ahead`")]
    NoBuffers,
    /// The engine completed a buffer and did not say how much it holds. Its content is lost.
    #[error(
        "C2H channel {channel} completed a buffer without metadata (it reads {status:#010x}, {length} bytes): \
         its data is lost; look for IOMMU faults, and `recover` the channel. {snapshot}"
    )]
    NoMetadata {
        /// Number of the channel.
        channel: usize,
        /// The first word, which should have 0x52b4 in its upper half.
        status: u32,
        /// The second word, which should be at most the size of a buffer.
        length: u32,
        /// The channel then.
        snapshot: Box<Snapshot>,
    },
    /// Credits were demanded, and this build of the core has none.
    #[error(
        "this card's core has no descriptor credits on {direction} channel {channel}; use the chain ring"
    )]
    NoCredits {
        /// Direction of the channel.
        direction: Direction,
        /// Its number.
        channel: usize,
    },
    /// Too much is in flight.
    #[error("{needed} descriptors needed, {free} free: poll or wait for earlier transfers, then try again")]
    Full {
        /// Descriptors (or places for jobs) that the transfer needs.
        needed: usize,
        /// How many are free now.
        free: usize,
    },
    /// It can never fit.
    #[error("{needed} descriptors needed, the ring has {ring}: split the transfer, or build a program")]
    TooLarge {
        /// Descriptors needed.
        needed: usize,
        /// Descriptors of the ring.
        ring: usize,
    },
    /// Two transfers of a list write the same host memory.
    #[error(
        "two transfers write the same host memory, at device address {address:#x}: one's data would be lost"
    )]
    Overlap {
        /// Where the second of them starts.
        address: u64,
    },
    /// The list of a program does not fit into one page, and pages are not contiguous for the card.
    #[error(
        "a list of {descriptors} descriptors does not fit into a page of {page}, and without an IOMMU pages are scattered: \
         reserve 1 GiB pages, or build several programs"
    )]
    ScatteredList {
        /// Descriptors of the list.
        descriptors: usize,
        /// The pages that were to be had.
        page: PageSize,
    },
    /// A program without transfers.
    #[error("the program is empty; add a transfer")]
    Empty,
    /// The transfer would leave the card's address space.
    #[error("{len:#x} bytes from card address {address:#x} leave the 64-bit address space")]
    CardAddress {
        /// First address.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// Memory for the other direction.
    #[error("{direction} needs memory of the other kind: the card {has} this buffer")]
    WrongAccess {
        /// Direction of the channel.
        direction: Direction,
        /// What the card may do with the buffer.
        has: Access,
    },
    /// The memory is another card's: its device addresses mean nothing here.
    #[error(
        "this memory belongs to another card; allocate or register it with the card whose channel uses it"
    )]
    ForeignMemory,
    /// The program was built for another card, another kind of ring or another direction.
    #[error(
        "this program was built for another card or another kind of channel; build it on the channel that will run it"
    )]
    ForeignProgram,
    /// The ticket is not of this channel.
    #[error("the ticket is of another channel")]
    ForeignTicket,
    /// Nobody asked about the ticket for so long that its outcome is no longer known.
    #[error("the ticket is too old: more than a thousand failures followed it")]
    TooOld,
    /// Not finished in time. It is still in flight, and its memory is still the card's.
    #[error("not finished within {waited:?}; wait again, or `stop` the channel. {snapshot}")]
    Deadline {
        /// How long was waited.
        waited: Duration,
        /// The channel then.
        snapshot: Box<Snapshot>,
    },
    /// The channel was given nothing to sleep on.
    #[error(
        "this channel has no interrupt to sleep on: open it through its card, with a way of waiting that sleeps, or wait by polling"
    )]
    NoEvent,
    /// The kernel does not let this thread sleep.
    #[error("cannot sleep until the channel interrupts")]
    Sleep(#[source] Arc<std::io::Error>),
    /// The engine stopped with an error. Transfers that were in flight are lost.
    #[error("the engine stopped with an error; `recover` the channel before the next transfer. {snapshot}")]
    Failed {
        /// The channel then.
        snapshot: Arc<Snapshot>,
    },
    /// The transfer was in flight when its channel was stopped.
    #[error("the transfer was abandoned: its channel was stopped before it finished")]
    Stopped,
    /// The card was reset, or brought back after its link was down, under this channel.
    #[error(
        "the card was reset under this channel, and the transfer is lost; `recover` the channel, then submit it again. {ring}"
    )]
    Reset {
        /// The ring then.
        ring: Box<RingState>,
    },
    /// The kernel wants the card back: it is being unbound or removed.
    #[error(
        "the kernel wants the card back (it is being unbound or removed); close the card: drop its channels, memory and handles. {ring}"
    )]
    Recalled {
        /// The ring then.
        ring: Box<RingState>,
    },
    /// A pool needs one to four channels, all of one direction and with one way of waiting.
    #[error("a pool takes 1 to {MAX_CHANNELS} channels of one direction that wait in the same way")]
    BadPool,
    /// The engine does not become idle. Memory in flight stays allocated.
    #[error("the engine does not become idle; reset the card. {snapshot}")]
    Hung {
        /// The channel then.
        snapshot: Box<Snapshot>,
    },
    /// The channel is closed, and its engine was not seen idle: the card may still use the memory of its transfers.
    #[error(
        "{cause}. The channel is closed, but its engine may still access {bytes} bytes of memory. They stay allocated until the card is \
         closed, or until the process exits if the card cannot be cut off"
    )]
    Quarantined {
        /// Bytes that stay allocated; those of the channel's own ring are among them.
        bytes: u64,
        /// What kept the engine from being seen idle.
        cause: Box<EngineError>,
    },
}

impl EngineError {
    /// What it counts as.
    pub(super) fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Failed { .. } => Some(ErrorKind::Failed),
            Self::Hung { .. } => Some(ErrorKind::Hung),
            Self::Reset { .. } | Self::Recalled { .. } => Some(ErrorKind::Reset),
            Self::Gone { .. } | Self::Bus { .. } => Some(ErrorKind::Gone),
            _ => None,
        }
    }

    /// The channel when it happened, registers and ring: of errors that registers explain.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Failed { snapshot } => Some(snapshot),
            Self::Deadline { snapshot, .. } | Self::Hung { snapshot } | Self::NoMetadata { snapshot, .. } => {
                Some(snapshot)
            }
            Self::Quarantined { cause, .. } => cause.snapshot(),
            _ => None,
        }
    }

    /// The channel's ring when it happened: of errors with a [`snapshot`](Self::snapshot), and of those whose registers say nothing,
    /// as the card was gone, reset or wanted back, or its bus failed.
    pub fn ring(&self) -> Option<&RingState> {
        match self {
            Self::Gone { ring, .. } | Self::Bus { ring, .. } => ring.as_deref(),
            Self::Reset { ring } | Self::Recalled { ring } => Some(ring),
            Self::Quarantined { cause, .. } => cause.ring(),
            other => other.snapshot()?.ring.as_ref(),
        }
    }
}

fn after(ring: Option<&RingState>) -> String {
    ring.map(|ring| format!(". {ring}")).unwrap_or_default()
}

impl From<BusError> for EngineError {
    fn from(error: BusError) -> Self {
        Self::Bus { cause: Arc::new(error), ring: None }
    }
}

impl From<MemoryError> for EngineError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(Arc::new(error))
    }
}

impl From<Fail> for EngineError {
    #[cold]
    fn from(error: Fail) -> Self {
        *error
    }
}

impl From<BusError> for Fail {
    #[cold]
    #[inline(never)]
    fn from(error: BusError) -> Self {
        Self::new(error.into())
    }
}

impl From<MemoryError> for Fail {
    #[cold]
    fn from(error: MemoryError) -> Self {
        Self::new(error.into())
    }
}
