//! Errors of streams: of receiving, and of using a received buffer.

use crate::Remedy;
use crate::channel::{EngineError, PollError, Snapshot, WaitError};
use crate::memory::MemoryError;

/// Why nothing was received.
///
/// Returned by [`Receiver::poll`](super::Receiver::poll) and [`wait`](super::Receiver::wait), and part of
/// [`OpenError`](crate::channel::OpenError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The engine has no buffer to fill, so nothing can arrive.
    #[error("the engine has no buffer, so nothing can be received; recycle a buffer, or raise `max_posted`")]
    NoBuffers,
    /// The engine completed a buffer without reporting the length of its data, which is lost.
    #[error(
        "C2H channel {channel} completed a buffer without metadata (status {status:#010x}, length {length}), \
         so its data is lost; look for IOMMU faults, and recover the channel. {snapshot}"
    )]
    NoMetadata {
        /// Number of the channel.
        channel: usize,
        /// The first metadata word; its upper half should be 0x52b4.
        status: u32,
        /// The second metadata word; it should be at most the size of a buffer.
        length: u32,
        /// The channel's registers and ring at the time of the error.
        snapshot: Box<Snapshot>,
    },
    /// The wait or poll failed. After [`WaitError::Deadline`] nothing is lost: a packet that arrived in part still completes.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

impl ReceiveError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NoBuffers => Remedy::Correct,
            Self::NoMetadata { .. } => Remedy::Recover,
            Self::Wait(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Wait(error) = self { error.engine() } else { None }
    }
}

impl From<PollError> for ReceiveError {
    fn from(error: PollError) -> Self {
        Self::Wait(error.into())
    }
}

impl From<EngineError> for ReceiveError {
    fn from(error: EngineError) -> Self {
        Self::Wait(error.into())
    }
}

/// Why a received buffer could not be read or recycled.
///
/// Returned by [`Receiver::read`](super::Receiver::read) and [`recycle`](super::Receiver::recycle).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// Another receiver returned the buffer.
    #[error("the buffer belongs to another receiver; use it with the receiver that returned it")]
    ForeignBuffer,
    /// The range is larger than the data in the buffer.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The engine failed, or the channel was stopped. The buffer is free nevertheless.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl BufferError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::ForeignBuffer => Remedy::Correct,
            Self::Memory(error) => error.remedy(),
            Self::Engine(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Engine(error) = self { Some(error) } else { None }
    }
}
