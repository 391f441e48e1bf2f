//! Errors of channels: one type per operation.

use super::snapshot::{RingState, Snapshot};
use crate::Remedy;
use crate::bus::BusError;
use crate::memory::{Access, MemoryError, PageSize};
use crate::regs::{Direction, MAX_CHANNELS};
use crate::stats::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// An engine's error on the hot path: boxed, so that a result fits in two registers.
pub(super) type Fail = Box<EngineError>;
/// A rejected submission on the hot path, boxed for the same reason.
pub(super) type Refusal = Box<SubmitError>;

/// Why an engine cannot continue. Work that was in flight is lost.
///
/// Returned by the operations that access the engine itself, such as [`Channel::check`](super::Channel::check),
/// [`stop`](super::Channel::stop), [`recover`](super::Channel::recover) and [`snapshot`](super::Channel::snapshot), and those
/// of [`Pool`](super::Pool) and [`Receiver`](super::stream::Receiver) with the same names. It is also the cause within most
/// other errors of a channel.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine stopped with an error.
    #[error("the engine stopped with an error; recover the channel before the next transfer. {snapshot}")]
    Failed {
        /// The channel's registers and ring at the time of the error.
        snapshot: Arc<Snapshot>,
    },
    /// The engine does not become idle. Memory in flight stays allocated.
    #[error("the engine does not become idle; reset the card. {snapshot}")]
    Hung {
        /// The channel's registers and ring at the time of the error.
        snapshot: Box<Snapshot>,
    },
    /// The channel was stopped before the transfer finished.
    #[error(
        "the channel was stopped before the transfer finished; recover the channel before the next transfer"
    )]
    Stopped,
    /// The card was reset, or recovered after its link was down, while the channel was open.
    #[error(
        "the card was reset while the channel was open; recover the channel, then submit the transfer again. {ring}"
    )]
    Reset {
        /// The channel's ring at the time of the error.
        ring: Box<RingState>,
    },
    /// The kernel is unbinding or removing the card.
    #[error(
        "the kernel is unbinding or removing the card; close the card: drop its channels, memory and handles. {ring}"
    )]
    Recalled {
        /// The channel's ring at the time of the error.
        ring: Box<RingState>,
    },
    /// The channel's registers read all ones.
    #[error(
        "the card is gone: {direction} channel {channel} reads all ones; look for it with `lspci`, then open it again{}",
        after(ring.as_deref())
    )]
    Gone {
        /// Direction of the channel.
        direction: Direction,
        /// Number of the channel.
        channel: usize,
        /// The channel's ring at the time of the error; `None` while the channel is being opened.
        ring: Option<Box<RingState>>,
    },
    /// A register access failed.
    #[error("{cause}{}", after(ring.as_deref()))]
    Bus {
        /// The cause. The text includes it, so it is not a source.
        cause: Arc<BusError>,
        /// The channel's ring at the time of the error; `None` while the channel is being opened.
        ring: Option<Box<RingState>>,
    },
}

impl EngineError {
    /// Returns the counter of the statistics that this error increments.
    pub(super) fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Failed { .. } => Some(ErrorKind::Failed),
            Self::Hung { .. } => Some(ErrorKind::Hung),
            Self::Reset { .. } | Self::Recalled { .. } => Some(ErrorKind::Reset),
            Self::Gone { .. } | Self::Bus { .. } => Some(ErrorKind::Gone),
            Self::Stopped => None,
        }
    }

    /// Returns the channel's registers and ring at the time of the error, if the registers explain it.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Failed { snapshot } => Some(snapshot),
            Self::Hung { snapshot } => Some(snapshot),
            _ => None,
        }
    }

    /// Returns the channel's ring at the time of the error.
    pub fn ring(&self) -> Option<&RingState> {
        match self {
            Self::Gone { ring, .. } | Self::Bus { ring, .. } => ring.as_deref(),
            Self::Reset { ring } | Self::Recalled { ring } => Some(ring),
            _ => self.snapshot()?.ring.as_ref(),
        }
    }

    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Failed { .. } | Self::Stopped | Self::Reset { .. } => Remedy::Recover,
            Self::Hung { .. } => Remedy::Reset,
            Self::Recalled { .. } => Remedy::Close,
            Self::Gone { .. } => Remedy::Reopen,
            Self::Bus { cause, .. } => cause.remedy(),
        }
    }
}

fn after(ring: Option<&RingState>) -> String {
    ring.map(|ring| format!(". {ring}")).unwrap_or_default()
}

/// Why a channel could not be opened.
///
/// Returned by [`Card::channel`](crate::card::Card::channel), [`h2c`](crate::card::Card::h2c), [`c2h`](crate::card::Card::c2h),
/// [`stream_h2c`](crate::card::Card::stream_h2c) and [`stream_c2h`](crate::card::Card::stream_c2h).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The card was opened with [`as_found`](crate::card::CardOptions::as_found).
    #[error("the card was opened `as_found`, for inspection only; open it without `as_found` to use it")]
    AsFound,
    /// The channel number is above 3.
    #[error("there is no {direction} channel {channel}; channel numbers are 0 to 3")]
    BadNumber {
        /// Direction of the channel.
        direction: Direction,
        /// Number of the channel.
        channel: usize,
    },
    /// This process already has the channel open.
    #[error("{direction} channel {channel} is already open; close it first")]
    Taken {
        /// Direction of the channel.
        direction: Direction,
        /// Number of the channel.
        channel: usize,
    },
    /// The card has no such channel.
    #[error("this card has no {direction} channel {channel} (its identifier reads {identifier:#010x})")]
    NoChannel {
        /// Direction of the channel.
        direction: Direction,
        /// Number of the channel.
        channel: usize,
        /// Value of the identifier register.
        identifier: u32,
    },
    /// The channel is an AXI-Stream channel.
    #[error("{direction} channel {channel} is an AXI-Stream channel; open it as a stream")]
    Stream {
        /// Direction of the channel.
        direction: Direction,
        /// Number of the channel.
        channel: usize,
    },
    /// The channel is a memory-mapped channel.
    #[error("{direction} channel {channel} is a memory-mapped channel; do not open it as a stream")]
    NotStream {
        /// Direction of the channel.
        direction: Direction,
        /// Number of the channel.
        channel: usize,
    },
    /// The credits ring was requested, and this channel has no descriptor credits.
    #[error("{direction} channel {channel} of this card has no descriptor credits; use the chain ring")]
    NoCredits {
        /// Direction of the channel.
        direction: Direction,
        /// Number of the channel.
        channel: usize,
    },
    /// The receive buffers have an invalid number or size.
    #[error(
        "{buffers} receive buffers of {bytes} bytes: a stream needs 1 to {} buffers of 64 to 2^28-64 bytes, \
         in multiples of 64",
        super::stream::MAX_BUFFERS
    )]
    BadBuffers {
        /// Number of buffers requested.
        buffers: usize,
        /// Size of each buffer in bytes.
        bytes: u32,
    },
    /// A receive buffer does not fit in one page, and pages are not contiguous for the card.
    #[error(
        "a receive buffer of {bytes} bytes does not fit in a page of {page}, and without an IOMMU pages are scattered; \
         use smaller buffers"
    )]
    ScatteredBuffer {
        /// Size of each buffer in bytes.
        bytes: u32,
        /// Page size that was available.
        page: PageSize,
    },
    /// The requested [`Wait`](super::Wait) mode needs interrupts, and the card has too few MSI-X vectors.
    #[error(
        "waiting for interrupts needs {needed} MSI-X vectors, and the card has {found}; use a `Wait` mode that polls"
    )]
    NoInterrupts {
        /// Vectors needed.
        needed: usize,
        /// Vectors that the card has.
        found: u32,
    },
    /// Discarding old data of a stream failed.
    #[error(transparent)]
    Discard(#[from] super::stream::ReceiveError),
    /// Memory for the channel could not be allocated or mapped.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The engine, or the link to it, failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl OpenError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::AsFound
            | Self::BadNumber { .. }
            | Self::BadBuffers { .. }
            | Self::ScatteredBuffer { .. } => Remedy::Correct,
            Self::Taken { .. } => Remedy::TryAgain,
            Self::NoChannel { .. }
            | Self::Stream { .. }
            | Self::NotStream { .. }
            | Self::NoCredits { .. }
            | Self::NoInterrupts { .. } => Remedy::Unsupported,
            Self::Discard(error) => error.remedy(),
            Self::Memory(error) => error.remedy(),
            Self::Engine(error) => error.remedy(),
        }
    }
}

/// Why a transfer's memory or card addresses are invalid.
///
/// Returned by [`Transfers::add`](super::Transfers::add), and part of [`SubmitError`], [`ProgramError`] and
/// [`DataError`](crate::msm::DataError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTransfer {
    /// The transfer would leave the card's address space.
    #[error("{len:#x} bytes from card address {address:#x} exceed the 64-bit address space")]
    CardAddress {
        /// First card address.
        address: u64,
        /// Number of bytes.
        len: u64,
    },
    /// The memory was allocated or registered for the other direction.
    #[error(
        "{direction} transfers need memory for that direction, and the card {has} this memory; allocate or register it for {direction}"
    )]
    WrongAccess {
        /// Direction of the channel.
        direction: Direction,
        /// The card's access to the memory.
        has: Access,
    },
    /// The memory belongs to another card. Its device addresses are not valid for this one.
    #[error("the memory belongs to another card; allocate or register it with the card that uses it")]
    ForeignMemory,
    /// The range is empty or outside of the memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl InvalidTransfer {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Memory(error) => error.remedy(),
            _ => Remedy::Correct,
        }
    }
}

/// Why a transfer, a list of transfers or a program was not started. Nothing was started, except that after an
/// [`Engine`](Self::Engine) error the engine may have been.
///
/// Returned by [`Channel::submit`](super::Channel::submit), [`start`](super::Channel::start) and [`run`](super::Channel::run),
/// [`Pool::submit`](super::Pool::submit), and [`Sender::send`](super::stream::Sender::send) and
/// [`send_part`](super::stream::Sender::send_part).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The ring or the queue is full.
    #[error(
        "{needed} descriptors are needed, and {free} are free; poll or wait for earlier transfers, then try again"
    )]
    Full {
        /// Number of descriptors (or queue entries) that the transfer needs.
        needed: usize,
        /// Number that is free.
        free: usize,
    },
    /// The transfer needs more descriptors than the ring has.
    #[error(
        "the transfer needs {needed} descriptors, and the ring has {ring}; split the transfer, or build a program"
    )]
    TooLarge {
        /// Number of descriptors that the transfer needs.
        needed: usize,
        /// Number of descriptors that the ring has.
        ring: usize,
    },
    /// The list of transfers is empty.
    #[error("the list of transfers is empty; add a transfer")]
    Empty,
    /// Two transfers of the list write the same host memory.
    #[error("two transfers write the same host memory at device address {address:#x}; separate them")]
    Overlap {
        /// Device address at which the second one starts.
        address: u64,
    },
    /// The list or program was made for another card, another direction or another ring.
    #[error("the list or program was made for another channel; build it on the channel that runs it")]
    WrongChannel,
    /// The memory, the range or the card addresses are invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidTransfer),
    /// The engine has failed, now or earlier.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl SubmitError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Full { .. } => Remedy::TryAgain,
            Self::TooLarge { .. } | Self::Empty | Self::Overlap { .. } | Self::WrongChannel => {
                Remedy::Correct
            }
            Self::Invalid(error) => error.remedy(),
            Self::Engine(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Engine(error) = self { Some(error) } else { None }
    }
}

/// Why a program could not be built.
///
/// Returned by [`Channel::program`](super::Channel::program), and part of [`PrepareError`](crate::msm::PrepareError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The list of transfers is empty.
    #[error("the program is empty; add a transfer")]
    Empty,
    /// The program has more descriptors than an engine can count.
    #[error(
        "the program needs {needed} descriptors, and a program has at most {most}; build several programs"
    )]
    TooLarge {
        /// Number of descriptors that the program needs.
        needed: usize,
        /// Maximum number of descriptors of a program.
        most: usize,
    },
    /// Two transfers write the same host memory.
    #[error("two transfers write the same host memory at device address {address:#x}; separate them")]
    Overlap {
        /// Device address at which the second one starts.
        address: u64,
    },
    /// The list of transfers was made for the other direction.
    #[error(
        "the list is for {0} transfers, and the channel is of the other direction; build a list for its direction"
    )]
    WrongDirection(Direction),
    /// The memory belongs to another card.
    #[error(transparent)]
    Invalid(#[from] InvalidTransfer),
    /// The program's descriptors do not fit in one page, and pages are not contiguous for the card.
    #[error(
        "{descriptors} descriptors do not fit in a page of {page}, and without an IOMMU pages are scattered; reserve 1 GiB \
         pages, or build several programs"
    )]
    ScatteredList {
        /// Number of descriptors of the program.
        descriptors: usize,
        /// Page size that was available.
        page: PageSize,
    },
    /// Memory for the descriptors could not be allocated or mapped.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl ProgramError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Invalid(error) => error.remedy(),
            Self::Memory(error) => error.remedy(),
            _ => Remedy::Correct,
        }
    }
}

/// Why a poll could not determine the state of a transfer.
///
/// Returned by [`Channel::poll`](super::Channel::poll) and [`Pool::poll`](super::Pool::poll).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// Another channel or pool issued the ticket.
    #[error("the ticket belongs to another channel; use it with the channel that issued it")]
    ForeignTicket,
    /// The outcome of the transfer is no longer stored.
    #[error("the outcome of this ticket is no longer known: more than a thousand failures followed it")]
    TooOld,
    /// The engine failed before the transfer finished.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl PollError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::ForeignTicket | Self::TooOld => Remedy::Correct,
            Self::Engine(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Engine(error) = self { Some(error) } else { None }
    }
}

/// Why a wait ended before the transfer finished.
///
/// Returned by [`Channel::wait`](super::Channel::wait) and [`settle`](super::Channel::settle), by
/// [`Pool::wait`](super::Pool::wait), and by their asynchronous counterparts; part of
/// [`ReceiveError`](super::stream::ReceiveError) and [`TransferError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The transfer did not finish in time. It is still in flight, and the card still uses its memory.
    #[error("the transfer is not finished within {waited:?}; wait again, or stop the channel. {snapshot}")]
    Deadline {
        /// Time limit of the wait.
        waited: Duration,
        /// The channel's registers and ring at the deadline.
        snapshot: Box<Snapshot>,
    },
    /// The wait would sleep, and the channel has no interrupt.
    #[error(
        "the channel has no interrupt to sleep on; open it with `Wait::Hybrid` or `Wait::Interrupt`, or wait by polling"
    )]
    NoInterrupt,
    /// The thread or task cannot sleep.
    #[error("cannot sleep until the channel interrupts")]
    Sleep(#[source] std::io::Error),
    /// Another channel or pool issued the ticket.
    #[error("the ticket belongs to another channel; use it with the channel that issued it")]
    ForeignTicket,
    /// The outcome of the transfer is no longer stored.
    #[error("the outcome of this ticket is no longer known: more than a thousand failures followed it")]
    TooOld,
    /// The engine failed before the transfer finished.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl WaitError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Deadline { .. } => Remedy::WaitAgain,
            Self::NoInterrupt | Self::ForeignTicket | Self::TooOld => Remedy::Correct,
            Self::Sleep(_) => Remedy::PrepareHost,
            Self::Engine(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Engine(error) = self { Some(error) } else { None }
    }

    /// Returns the channel's registers and ring at the end of the wait, if they explain the error.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Deadline { snapshot, .. } => Some(snapshot),
            _ => self.engine()?.snapshot(),
        }
    }
}

impl From<PollError> for WaitError {
    fn from(error: PollError) -> Self {
        match error {
            PollError::ForeignTicket => Self::ForeignTicket,
            PollError::TooOld => Self::TooOld,
            PollError::Engine(error) => Self::Engine(error),
        }
    }
}

/// Why a transfer did not finish: it was not started, or the wait for it failed.
///
/// Returned by [`Channel::transfer`](super::Channel::transfer) and [`Pool::transfer`](super::Pool::transfer), and part of
/// [`JobError`](crate::msm::JobError).
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The transfer was not started.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The transfer was started, and the wait for it failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

impl From<PollError> for TransferError {
    fn from(error: PollError) -> Self {
        Self::Wait(error.into())
    }
}

impl From<EngineError> for TransferError {
    fn from(error: EngineError) -> Self {
        Self::Wait(error.into())
    }
}

impl TransferError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Submit(error) => error.remedy(),
            Self::Wait(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        match self {
            Self::Submit(error) => error.engine(),
            Self::Wait(error) => error.engine(),
        }
    }
}

/// Why a scope failed although its body succeeded.
///
/// [`Channel::scope`](super::Channel::scope) converts it to the error type of the body.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// A transfer failed, or was not finished in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Received data could not be copied to a lent slice.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Why a channel was not closed cleanly. It is closed nevertheless.
///
/// Returned by [`Channel::close`](super::Channel::close), [`Sender::close`](super::stream::Sender::close) and
/// [`Receiver::close`](super::stream::Receiver::close).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The engine was not seen idle, so the card may still use the memory of its transfers.
    #[error(
        "{cause}. The channel is closed, but its engine may still access {bytes} bytes of memory. They stay allocated until the \
         card is closed, or until the process exits if the card cannot be cut off"
    )]
    Quarantined {
        /// Number of bytes that stay allocated, including the channel's own ring.
        bytes: u64,
        /// Why the engine was not seen idle. The text includes it, so it is not a source.
        cause: EngineError,
    },
    /// The engine is idle, but its registers could not be reset.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl CloseError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        self.engine().remedy()
    }

    /// Returns the engine's error.
    pub fn engine(&self) -> &EngineError {
        match self {
            Self::Quarantined { cause, .. } | Self::Engine(cause) => cause,
        }
    }
}

/// Why a pool could not be created: it needs 1 to 4 channels of one direction that wait in the same way.
///
/// Returned by [`Pool::new`](super::Pool::new).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a pool needs 1 to {MAX_CHANNELS} channels of one direction that wait in the same way")]
pub struct PoolError;

impl From<BusError> for EngineError {
    fn from(error: BusError) -> Self {
        Self::Bus { cause: Arc::new(error), ring: None }
    }
}

impl From<BusError> for Fail {
    #[cold]
    #[inline(never)]
    fn from(error: BusError) -> Self {
        Self::new(error.into())
    }
}

/// Conversions for error types with a variant `Engine`.
macro_rules! from_fail {
    ($($error:ident),*) => {$(
        impl From<Fail> for $error {
            #[cold]
            fn from(error: Fail) -> Self {
                (*error).into()
            }
        }
    )*};
}

from_fail!(OpenError, SubmitError, PollError, WaitError);

impl From<Fail> for EngineError {
    #[cold]
    fn from(error: Fail) -> Self {
        *error
    }
}

impl From<Fail> for Refusal {
    #[cold]
    #[inline(never)]
    fn from(error: Fail) -> Self {
        Self::new((*error).into())
    }
}

impl From<Refusal> for SubmitError {
    #[cold]
    fn from(error: Refusal) -> Self {
        *error
    }
}
