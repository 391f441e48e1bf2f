//! Errors of the MSM client: one type per operation.

use super::DesignState;
use super::curve::CurveError;
use crate::Remedy;
use crate::bus::BusError;
use crate::card::{CardError, InterruptError};
use crate::channel::{
    EngineError, InvalidTransfer, OpenError, PollError, ProgramError, Snapshot, SubmitError, TransferError,
    WaitError,
};
use crate::memory::MemoryError;
use std::time::Duration;

/// Why the client of the MSM design could not be opened.
///
/// Returned by [`Msm::open`](super::Msm::open) and [`Design::of`](super::Design::of).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MsmOpenError {
    /// The card's user logic is something else.
    #[error(
        "the card's logic is not the MSM design: {what} reads {value:#010x}, not {expected:#010x}; load the design's image"
    )]
    NotMsm {
        /// Description of the register.
        what: &'static str,
        /// Value of the register.
        value: u32,
        /// Value that the design has in this register.
        expected: u32,
    },
    /// The design computes over another curve.
    #[error("the design on the card is for curve {0}, and this client is for BN254 (1); load another image")]
    OtherCurve(u32),
    /// Registers read all ones.
    #[error("the card is gone: its registers read all ones; look for it with `lspci`, then open it again")]
    Gone,
    /// The chunk size could deadlock the design's FIFOs.
    #[error(
        "chunks of {chunk} pairs could deadlock the card: the core consumes a scalar only with its point, the scalar FIFO \
         holds {depth}, and the points of a chunk follow all its scalars; use chunks of at most {depth} pairs"
    )]
    Deadlock {
        /// Number of pairs per chunk.
        chunk: u32,
        /// Depth of the scalar FIFO.
        depth: u32,
    },
    /// The chunk size is odd or zero, and does not fill beats.
    #[error(
        "chunks of {chunk} pairs do not fill beats of two scalars; use an even number of pairs, at least 2"
    )]
    OddChunk {
        /// Number of pairs per chunk.
        chunk: u32,
    },
    /// The card has no BAR for user logic.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A channel could not be opened.
    #[error(transparent)]
    Channel(#[from] OpenError),
    /// The design's interrupt could not be enabled.
    #[error(transparent)]
    Interrupt(#[from] InterruptError),
    /// Memory for the result could not be allocated.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A register access failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl MsmOpenError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NotMsm { .. } | Self::OtherCurve(_) => Remedy::Unsupported,
            Self::Gone => Remedy::Reopen,
            Self::Deadlock { .. } | Self::OddChunk { .. } => Remedy::Correct,
            Self::Card(error) => error.remedy(),
            Self::Channel(error) => error.remedy(),
            Self::Interrupt(error) => error.remedy(),
            Self::Memory(error) => error.remedy(),
            Self::Bus(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Channel(error) = self { error.engine() } else { None }
    }
}

/// Why points or scalars could not be created, written, checked or used.
///
/// Returned by the methods of [`Points`](super::Points) and [`Scalars`](super::Scalars), except for `register`; part of
/// [`PrepareError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The byte length is not a multiple of the element size.
    #[error("{len} bytes are not a whole number of {what} of {size} bytes each; pass whole {what}")]
    Size {
        /// "points" or "scalars".
        what: &'static str,
        /// Number of bytes given.
        len: usize,
        /// Number of bytes per element.
        size: usize,
    },
    /// The elements are registered, so they cannot be written.
    #[error("registered elements cannot be written; allocate elements instead, or register others")]
    Registered,
    /// A range is outside of its points or scalars.
    #[error("the range {start}..{end} is outside of the {len} {what}")]
    OutOfRange {
        /// "points" or "scalars".
        what: &'static str,
        /// First element.
        start: usize,
        /// Element after the last.
        end: usize,
        /// Number of elements.
        len: usize,
    },
    /// A beat of two scalars lies in two ranges of memory that are not contiguous for the card.
    #[error(
        "the beat at scalar {start} lies in two ranges of memory that are not contiguous for the card; start at an even \
         scalar, or copy the scalars"
    )]
    SplitBeat {
        /// First scalar of the range.
        start: usize,
    },
    /// A point is not on the curve, or a scalar is not below r.
    #[error(transparent)]
    Curve(#[from] CurveError),
    /// Memory could not be allocated, mapped or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The list of transfers does not accept the elements.
    #[error(transparent)]
    Invalid(#[from] InvalidTransfer),
}

impl DataError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Memory(error) => error.remedy(),
            Self::Invalid(error) => error.remedy(),
            _ => Remedy::Correct,
        }
    }
}

/// Why a job could not be prepared.
///
/// Returned by [`Msm::prepare`](super::Msm::prepare) and [`prepare_range`](super::Msm::prepare_range).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The numbers of points and scalars differ.
    #[error("{points} points and {scalars} scalars do not form pairs; a job needs as many points as scalars")]
    Counts {
        /// Number of points.
        points: usize,
        /// Number of scalars.
        scalars: usize,
    },
    /// The job has more pairs than the design accepts per task.
    #[error(
        "the job has {pairs} pairs, and the design accepts at most {max} per task; split the MSM and add the results"
    )]
    TooMany {
        /// Number of pairs requested.
        pairs: u64,
        /// Maximum number of pairs per task.
        max: u32,
    },
    /// The points or scalars cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The program could not be built.
    #[error(transparent)]
    Program(ProgramError),
}

impl PrepareError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Counts { .. } | Self::TooMany { .. } => Remedy::Correct,
            Self::Data(error) => error.remedy(),
            Self::Program(error) => error.remedy(),
        }
    }
}

/// Memory of another card is detected either while the list of transfers is built or by the channel. Callers get the same error in
/// both cases.
impl From<ProgramError> for PrepareError {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::Invalid(error) => Self::Data(DataError::Invalid(error)),
            error => Self::Program(error),
        }
    }
}

/// Why a job was not started.
///
/// Returned by [`Msm::submit`](super::Msm::submit) and [`start`](super::Msm::start).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MsmSubmitError {
    /// The design's task queue is full. Nothing was started.
    #[error(
        "{running} jobs are in flight, and the design can queue {capacity}; poll or wait for the oldest one, then try again"
    )]
    Busy {
        /// Number of jobs in flight.
        running: usize,
        /// Number of jobs that the design can queue.
        capacity: usize,
    },
    /// The task has more pairs than the design accepts. Nothing was started.
    #[error(
        "the job has {pairs} pairs, and the design accepts at most {max} per task; split the MSM and add the results"
    )]
    TooMany {
        /// Number of pairs requested.
        pairs: u64,
        /// Maximum number of pairs per task.
        max: u32,
    },
    /// The streaming channel did not start the program.
    #[error(transparent)]
    Channel(#[from] SubmitError),
    /// A register access failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl MsmSubmitError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Busy { .. } => Remedy::TryAgain,
            Self::TooMany { .. } => Remedy::Correct,
            Self::Channel(error) => error.remedy(),
            Self::Bus(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Channel(error) = self { error.engine() } else { None }
    }
}

/// Why the design's state could not be read, or the client could not recover.
///
/// Returned by [`Msm::state`](super::Msm::state), [`sample_counters`](super::Msm::sample_counters) and
/// [`recover`](super::Msm::recover).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DesignError {
    /// Registers read all ones.
    #[error("the card is gone: its registers read all ones; look for it with `lspci`, then open it again")]
    Gone,
    /// A register access failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// An engine failed or does not become idle.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl DesignError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Gone => Remedy::Reopen,
            Self::Bus(error) => error.remedy(),
            Self::Engine(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        if let Self::Engine(error) = self { Some(error) } else { None }
    }
}

/// Why a job has no result, for now or for good.
///
/// Returned by [`Msm::poll`](super::Msm::poll), [`poll_accepted`](super::Msm::poll_accepted), [`wait`](super::Msm::wait) and
/// [`wait_accepted`](super::Msm::wait_accepted).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job did not finish in time. It is still in flight.
    #[error("job {label} of {pairs} pairs was not finished within {waited:?}; wait again, or recover the client. {state}{}", channel_text(.channel))]
    Deadline {
        /// Label of the job.
        label: u32,
        /// Number of pairs of the job.
        pairs: u32,
        /// Time limit of the wait.
        waited: Duration,
        /// State of the design at the deadline.
        state: Box<DesignState>,
        /// State of the streaming channel, if the job was still streaming.
        channel: Option<Box<Snapshot>>,
    },
    /// The design returned results in a different order.
    #[error(
        "the design returned the result of job {label}, and the oldest job is {expected}; recover the client, then submit the jobs again"
    )]
    WrongLabel {
        /// Label of the oldest job.
        expected: u32,
        /// Label of the result.
        label: u32,
    },
    /// The design reports errors.
    #[error("the design reports {0:?}; recover the client, then submit the job again")]
    Design(crate::regs::msm::Errors),
    /// The job failed half-way. If possible, the client has recovered: the design is empty for the next job, and later jobs are
    /// [lost](Self::Lost).
    #[error(
        "job {label} stopped after the core had consumed {taken} of {pairs} pairs, {chunks} whole chunks; submit it again. {cause}"
    )]
    Interrupted {
        /// Label of the job.
        label: u32,
        /// Number of pairs of the job.
        pairs: u32,
        /// Number of pairs that the core had consumed.
        taken: u32,
        /// Number of whole chunks among them, at the client's current chunk size ([`Msm::chunk`](super::Msm::chunk)).
        chunks: u32,
        /// Why it stopped. The text includes it, so it is not a source.
        cause: Box<JobError>,
    },
    /// The job was in flight when the client recovered.
    #[error("the job was in flight when the client recovered; submit it again")]
    Lost,
    /// The result was already returned, or is no longer stored.
    #[error(
        "there is no result for this ticket: it was already returned, or discarded, because only the latest 1024 results are stored"
    )]
    NoResult,
    /// Another client issued the ticket.
    #[error("the ticket belongs to another MSM client; use it with the client that issued it")]
    ForeignTicket,
    /// Registers read all ones.
    #[error("the card is gone: its registers read all ones; look for it with `lspci`, then open it again")]
    Gone,
    /// A channel failed.
    #[error(transparent)]
    Channel(#[from] TransferError),
    /// A register access failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl JobError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Deadline { .. } => Remedy::WaitAgain,
            Self::WrongLabel { .. } | Self::Design(_) | Self::Interrupted { .. } | Self::Lost => {
                Remedy::Recover
            }
            Self::NoResult | Self::ForeignTicket => Remedy::Correct,
            Self::Gone => Remedy::Reopen,
            Self::Channel(error) => error.remedy(),
            Self::Bus(error) => error.remedy(),
        }
    }

    /// Returns the engine's error, if that is the cause.
    pub fn engine(&self) -> Option<&EngineError> {
        match self {
            Self::Channel(error) => error.engine(),
            Self::Interrupted { cause, .. } => cause.engine(),
            _ => None,
        }
    }
}

impl From<DesignError> for JobError {
    fn from(error: DesignError) -> Self {
        match error {
            DesignError::Gone => Self::Gone,
            DesignError::Bus(error) => Self::Bus(error),
            DesignError::Engine(error) => error.into(),
        }
    }
}

/// Conversions of the errors that a [`TransferError`] can be made from.
macro_rules! from_channel {
    ($($error:ident),*) => {$(
        impl From<$error> for JobError {
            fn from(error: $error) -> Self {
                Self::Channel(error.into())
            }
        }
    )*};
}

from_channel!(EngineError, PollError, SubmitError, WaitError);

fn channel_text(channel: &Option<Box<Snapshot>>) -> String {
    channel.as_ref().map_or(String::new(), |snapshot| format!("; {snapshot}"))
}
