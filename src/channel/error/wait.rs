//! Polling and waiting.

use super::engine::{EngineError, Fail};
use super::submit::SubmitError;
use crate::Remedy;
use crate::channel::snapshot::Snapshot;
use crate::memory::MemoryError;
use std::time::Duration;

/// Why a poll could not determine the state of a transfer.
///
/// Returned by [`Channel::poll`](crate::channel::Channel::poll) and [`Pool::poll`](crate::channel::Pool::poll).
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
/// Returned by [`Channel::wait`](crate::channel::Channel::wait) and [`settle`](crate::channel::Channel::settle), by
/// [`Pool::wait`](crate::channel::Pool::wait), and by their asynchronous counterparts; part of
/// [`ReceiveError`](crate::channel::stream::ReceiveError) and [`TransferError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The transfer did not finish in time. It is still in flight, and the card still uses its memory.
    #[error("the transfer was not finished within {waited:?}; wait again, or stop the channel. {snapshot}")]
    Deadline {
        /// Time limit of the wait.
        waited: Duration,
        /// The channel's registers and ring at the deadline.
        snapshot: Box<Snapshot>,
    },
    /// The wait would sleep, and the channel has no interrupt.
    #[error(
        "the channel has no interrupt to sleep on; open it with `ChannelOptions::wait` set to `Wait::Hybrid` or `Wait::Interrupt` if the card has interrupts, or wait by polling"
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
/// Returned by [`Channel::transfer`](crate::channel::Channel::transfer) and [`Pool::transfer`](crate::channel::Pool::transfer), and part of
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
/// [`Channel::scope`](crate::channel::Channel::scope) converts it to the error type of the body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// A transfer failed, or was not finished in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Received data could not be copied to a borrowed slice.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl ScopeError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Wait(error) => error.remedy(),
            Self::Memory(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Wait(error) = self { error.engine() } else { None }
    }
}

impl From<Fail> for PollError {
    #[cold]
    fn from(error: Fail) -> Self {
        (*error).into()
    }
}

impl From<Fail> for WaitError {
    #[cold]
    fn from(error: Fail) -> Self {
        (*error).into()
    }
}
