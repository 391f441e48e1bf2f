use super::Fill;
use crate::bus::BusError;
use crate::card::CardError;
use crate::channel::{EngineError, Snapshot};
use crate::memory::MemoryError;
use std::time::Duration;

/// What went wrong with an MSM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MsmError {
    /// The card failed.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A channel failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Memory could not be had or used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A register access failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The card's logic is something else.
    #[error(
        "the card's logic is not the MSM design: {what} reads {value:#010x}, not {expected:#010x}; load its image first"
    )]
    NotMsm {
        /// Which register.
        what: &'static str,
        /// What it reads.
        value: u32,
        /// What the design has there.
        expected: u32,
    },
    /// The design computes over another curve.
    #[error("the design on the card is for curve {0}, this client is for BN254 (1)")]
    OtherCurve(u32),
    /// Registers read all ones.
    #[error("the card is gone: its registers read all ones")]
    Gone,
    /// Points and scalars do not match.
    #[error("{points} points and {scalars} scalars: a job takes as many of one as of the other")]
    Counts {
        /// Number of points.
        points: usize,
        /// Number of scalars.
        scalars: usize,
    },
    /// A range leaves its points or scalars.
    #[error("elements {start}..{end} leave the {len} {what}")]
    OutOfRange {
        /// Points or scalars.
        what: &'static str,
        /// First element.
        start: usize,
        /// Element after the last.
        end: usize,
        /// How many there are.
        len: usize,
    },
    /// More pairs than a task can have.
    #[error("{pairs} pairs, and the design takes at most {max} a task: split the MSM and add the results")]
    TooMany {
        /// Pairs asked for.
        pairs: u64,
        /// The design's limit.
        max: u32,
    },
    /// Bytes that are no whole number of elements.
    #[error("{len} bytes are no whole number of {what} of {size} bytes")]
    Size {
        /// Points or scalars.
        what: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes of an element.
        size: usize,
    },
    /// A point is not on the curve, or a scalar not below r.
    #[error(transparent)]
    Curve(#[from] super::curve::CurveError),
    /// A chunk that the two FIFOs cannot take.
    #[error(
        "chunks of {chunk} pairs could deadlock the card: the core takes a scalar only with its point, the scalar FIFO \
         holds {depth}, and the points of a chunk come after all its scalars; take at most {depth}"
    )]
    Deadlock {
        /// Pairs a chunk.
        chunk: u32,
        /// Depth of the scalar FIFO.
        depth: u32,
    },
    /// A beat of two scalars lies in two stretches of memory.
    #[error(
        "the scalars from {start} on lie so that a beat of two is cut in two by the end of a stretch that is contiguous for          the card; start at an even scalar, or copy them to scalars of their own"
    )]
    SplitBeat {
        /// First scalar of the range.
        start: usize,
    },
    /// A chunk that does not fill beats.
    #[error("chunks of {chunk} pairs: a chunk is an even number of pairs, as a beat carries two scalars")]
    Chunk {
        /// Pairs a chunk.
        chunk: u32,
    },
    /// The design's queue of tasks is full.
    #[error(
        "{running} jobs are in flight and the design queues {room}: poll or wait for the oldest one first"
    )]
    Busy {
        /// Jobs in flight.
        running: usize,
        /// Jobs that can be.
        room: usize,
    },
    /// Not finished in time; the job is still in flight.
    #[error("job {label} of {pairs} pairs is not finished within {waited:?}: {fill}{}", channel_text(.channel))]
    Deadline {
        /// The job's label.
        label: u32,
        /// Its pairs.
        pairs: u32,
        /// How long was waited.
        waited: Duration,
        /// What the design was doing.
        fill: Box<Fill>,
        /// The streaming channel, if data was still streaming.
        channel: Option<Box<Snapshot>>,
    },
    /// The results came in another order.
    #[error("the design's result has label {label}, the oldest job {expected}: recover, and submit again")]
    WrongLabel {
        /// The oldest job's label.
        expected: u32,
        /// The result's.
        label: u32,
    },
    /// The design reports errors.
    #[error("the design reports {0:?}: recover, and submit again")]
    Design(crate::regs::msm::Errors),
    /// The job failed half-way. The design was flushed and the channels were recovered if that was possible: the next job finds
    /// them empty, and jobs behind this one are [lost](Self::Lost).
    #[error(
        "job {label} stopped when the core had taken {taken} of {pairs} pairs, {chunks} whole chunks: submit it again. {cause}"
    )]
    Interrupted {
        /// The job's label.
        label: u32,
        /// Its pairs.
        pairs: u32,
        /// Pairs that the core had taken.
        taken: u32,
        /// Whole chunks among them, as [`Msm::prepare`](super::Msm::prepare) cuts jobs now.
        chunks: u32,
        /// Why it stopped. The text has it already, so it is no source.
        cause: Box<MsmError>,
    },
    /// The job was in flight when the client recovered.
    #[error("the job was dropped by a recovery; submit it again")]
    Lost,
    /// The ticket's result was taken already, or is no longer kept.
    #[error(
        "no result for this ticket: it was already taken, or discarded because only the latest 1024 results are kept"
    )]
    NoResult,
    /// The ticket is of another client.
    #[error("this ticket belongs to another MSM client; use it with the client that issued it")]
    ForeignTicket,
}

fn channel_text(channel: &Option<Box<Snapshot>>) -> String {
    channel.as_ref().map_or(String::new(), |snapshot| format!("; {snapshot}"))
}
