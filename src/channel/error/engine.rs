//! Errors that stop an engine.

use crate::Remedy;
use crate::bus::BusError;
use crate::channel::snapshot::{RingState, Snapshot};
use crate::regs::Direction;
use crate::stats::ErrorKind;
use std::sync::Arc;

/// An engine's error on the hot path: boxed, so that a result fits in two registers.
pub(in crate::channel) type Fail = Box<EngineError>;

/// Why an engine cannot continue. Work that was in flight is lost.
///
/// Returned by the operations that access the engine itself, such as [`Channel::check`](crate::channel::Channel::check),
/// [`stop`](crate::channel::Channel::stop), [`recover`](crate::channel::Channel::recover) and [`snapshot`](crate::channel::Channel::snapshot), and those
/// of [`Pool`](crate::channel::Pool) and [`Receiver`](crate::channel::stream::Receiver) with the same names. It is also the cause within most
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
    #[error(
        "the engine does not become idle; reset the card, and load its image again if that does not help. {snapshot}"
    )]
    Hung {
        /// The channel's registers and ring at the time of the error.
        snapshot: Box<Snapshot>,
    },
    /// The channel was stopped before the transfer finished, or an earlier stop or recovery of it failed.
    #[error(
        "the channel was stopped before the transfer finished, or a stop or recovery failed earlier; recover the channel before the \
         next transfer"
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
    pub(in crate::channel) fn kind(&self) -> Option<ErrorKind> {
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

impl From<Fail> for EngineError {
    #[cold]
    fn from(error: Fail) -> Self {
        *error
    }
}
