//! Opening and closing channels.

use super::engine::{EngineError, Fail};
use crate::Remedy;
use crate::memory::{MemoryError, PageSize};
use crate::regs::{Direction, MAX_CHANNELS};

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
        crate::channel::stream::MAX_BUFFERS
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
    /// Discarding old data of a stream failed.
    #[error(transparent)]
    Discard(#[from] crate::channel::stream::ReceiveError),
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
            | Self::NoCredits { .. } => Remedy::Unsupported,
            Self::Discard(error) => error.remedy(),
            Self::Memory(error) => error.remedy(),
            Self::Engine(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        match self {
            Self::Discard(error) => error.engine(),
            Self::Engine(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a channel was not closed cleanly. It is closed nevertheless.
///
/// Returned by [`Channel::close`](crate::channel::Channel::close), [`Sender::close`](crate::channel::stream::Sender::close) and
/// [`Receiver::close`](crate::channel::stream::Receiver::close).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The engine was not seen idle, so the card may still use the memory of its transfers.
    #[error(
        "{cause}. The channel is closed, but its engine may still access {bytes} bytes of memory. They stay allocated until the \
         card is closed, or until the process exits if its access cannot be revoked"
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
/// Returned by [`Pool::new`](crate::channel::Pool::new).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a pool needs 1 to {MAX_CHANNELS} channels of one direction that wait in the same way")]
pub struct PoolError;

impl PoolError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        Remedy::Correct
    }
}

impl From<Fail> for OpenError {
    #[cold]
    fn from(error: Fail) -> Self {
        (*error).into()
    }
}
