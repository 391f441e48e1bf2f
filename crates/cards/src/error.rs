//! Error types.

use crate::source::BoxedError;
use std::sync::Arc;
use std::time::Duration;
use xdma::Remedy;
use xdma::card::CardError;
use xdma::msm::curve::CurveError;
use xdma::msm::{DataError, DesignError, JobError, MsmOpenError, MsmSubmitError, PrepareError};

/// Why [`Cards`](crate::Cards) could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardsError {
    /// No card was passed.
    #[error("there is no card to open; pass at least one")]
    NoCards,
    /// A card could not be opened or used.
    #[error("card {card}: {source}")]
    Card {
        /// The card's name.
        card: Arc<str>,
        /// The cause.
        #[source]
        source: MemberError,
    },
}

/// Why a card could not be opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The card could not be opened.
    #[error(transparent)]
    Open(BoxedError),
    /// Its MSM design could not be opened.
    #[error(transparent)]
    Msm(#[from] MsmOpenError),
    /// The design does not compute, or computes only tiny MSMs.
    #[error(
        "its MSM design is not usable: {}; load another image",
        if *.stub { "it has a stub core, which does not compute".into() } else { format!("its jobs have at most {max_pairs} pairs") }
    )]
    Unusable {
        /// Whether the design has a stub core.
        stub: bool,
        /// Maximum number of pairs of a job.
        max_pairs: u32,
    },
    /// Its thread could not be created.
    #[error("its thread could not be created: {0}; raise the thread limit (`ulimit -u`)")]
    Thread(#[from] std::io::Error),
    /// DMA memory for points could not be allocated or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It could not be recovered after an error.
    #[error(transparent)]
    Card(#[from] CardError),
    /// Its MSM client could not be recovered after an error.
    #[error(transparent)]
    Recover(#[from] DesignError),
    /// It failed the test sum, two pairs with a known result, that precedes readmission.
    #[error("the test sum failed: {0}")]
    Test(#[source] PartError),
    /// Its thread ended.
    #[error("its thread ended unexpectedly; this is a bug: report it with the log")]
    ThreadEnded,
}

impl MemberError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Open(_) => Remedy::Reopen,
            Self::Msm(error) => error.remedy(),
            Self::Unusable { .. } => Remedy::Unsupported,
            Self::Thread(_) => Remedy::PrepareHost,
            Self::Data(error) => error.remedy(),
            Self::Card(error) => error.remedy(),
            Self::Recover(error) => error.remedy(),
            Self::Test(error) => error.remedy(),
            Self::ThreadEnded => Remedy::Reopen,
        }
    }
}

impl CardsError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NoCards => Remedy::Correct,
            Self::Card { source, .. } => source.remedy(),
        }
    }
}

/// Why points could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A point is not on the curve.
    #[error(transparent)]
    Curve(#[from] CurveError),
    /// DMA memory of a card could not be allocated or written.
    #[error("card {card}: {source}")]
    Card {
        /// The card's name.
        card: Arc<str>,
        /// The cause.
        #[source]
        source: DataError,
    },
    /// The cards were closed, or belong to the parent of this process.
    #[error("the cards were closed, or the parent of this process opened them; open them in this process")]
    Closed,
}

impl RegisterError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Curve(error) => error.remedy(),
            Self::Card { source, .. } => source.remedy(),
            Self::Closed => Remedy::Reopen,
        }
    }
}

/// Why [`Scalars`](crate::Scalars) are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScalarsError {
    /// A scalar is not below the group order, so the cards do not accept it.
    #[error("scalar {index} is not below the group order r; reduce it modulo r")]
    NotCanonical {
        /// Index of the scalar.
        index: usize,
    },
}

/// Why a card did not compute a part of a sum.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// DMA memory for scalars could not be allocated or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The job could not be prepared.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The job could not be submitted.
    #[error(transparent)]
    Submit(#[from] MsmSubmitError),
    /// The card did not return a result.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The result is not a point on the curve.
    #[error("the card's result is not a point on the curve: {0}; check the card with `xdma selftest`")]
    InvalidPoint(#[from] CurveError),
    /// The result is wrong.
    #[error("the card's result is wrong: it does not match {expected}; check the card with `xdma selftest`")]
    Wrong {
        /// The value with which the result was compared.
        expected: &'static str,
    },
    /// The card could not be recovered after an error.
    #[error(transparent)]
    Recover(#[from] DesignError),
    /// The points are not in the card's memory.
    #[error("the card has no copy of the points, because it was out of service when they were registered")]
    NoPoints,
    /// The card's thread ended.
    #[error("the card's thread ended unexpectedly; this is a bug: report it with the log")]
    ThreadEnded,
    /// The sum was abandoned, or the cards were closed.
    #[error("the sum is no longer needed")]
    Unwanted,
}

impl PartError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Data(error) => error.remedy(),
            Self::Prepare(error) => error.remedy(),
            Self::Submit(error) => error.remedy(),
            Self::Job(error) => error.remedy(),
            Self::Recover(error) => error.remedy(),
            Self::InvalidPoint(_) | Self::Wrong { .. } | Self::NoPoints => Remedy::Recover,
            Self::ThreadEnded => Remedy::Reopen,
            Self::Unwanted => Remedy::TryAgain,
        }
    }

    /// Returns whether the card computed a wrong result.
    pub(crate) fn is_wrong_result(&self) -> bool {
        matches!(self, Self::InvalidPoint(_) | Self::Wrong { .. })
    }

    /// Returns whether the error concerns only this part, not the card.
    pub(crate) fn spares_the_card(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Prepare(_) | Self::NoPoints | Self::Unwanted)
    }
}

/// A card that failed to compute a part of a sum, which another card then computed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CardFailure {
    /// The card's name.
    pub card: Arc<str>,
    /// Number of pairs of the part.
    pub pairs: usize,
    /// The cause.
    pub error: Arc<PartError>,
}

impl std::fmt::Display for CardFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "card {}, {} pairs: {}", self.card, self.pairs, self.error)
    }
}

/// Why a sum has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SumError {
    /// The ranges do not lie within the points and scalars.
    #[error(
        "{pairs} pairs from point {first} on and from scalar {first_scalar} on, but there are {points} points and {scalars} scalars; shorten the sum"
    )]
    OutOfRange {
        /// First point.
        first: usize,
        /// First scalar.
        first_scalar: usize,
        /// Number of pairs.
        pairs: usize,
        /// Number of points.
        points: usize,
        /// Number of scalars.
        scalars: usize,
    },
    /// The numbers of points and scalars differ.
    #[error(
        "{points} points and {scalars} scalars do not form pairs; pass as many scalars as points, or submit a range"
    )]
    Counts {
        /// Number of points.
        points: usize,
        /// Number of scalars.
        scalars: usize,
    },
    /// The bases belong to other cards.
    #[error("the bases were registered with other cards; register them with these")]
    ForeignBases,
    /// No card is left that could compute a part.
    #[error("no card is left to compute {pairs} pairs of the sum: {}; fix the cause, then readmit a card", failures_text(.failures))]
    NoCardLeft {
        /// Number of pairs of the part.
        pairs: usize,
        /// What failed during this sum. Empty if all cards were already out of service.
        failures: Vec<CardFailure>,
    },
    /// The sum did not finish in time. It is still in progress.
    #[error(
        "{pairs} pairs of the sum were not finished within {waited:?}; wait again, or drop the sum. {state}"
    )]
    Deadline {
        /// Number of pairs without a result.
        pairs: usize,
        /// Time limit of the wait.
        waited: Duration,
        /// What the cards are doing, in words for a person to read.
        state: String,
    },
    /// The result was already returned.
    #[error("the result of this sum was already returned")]
    Taken,
    /// The cards were closed, or belong to the parent of this process.
    #[error("the cards were closed, or the parent of this process opened them; open them in this process")]
    Closed,
}

fn failures_text(failures: &[CardFailure]) -> String {
    if failures.is_empty() {
        return "all cards are out of service after earlier failures".into();
    }
    failures.iter().map(CardFailure::to_string).collect::<Vec<_>>().join("; ")
}

impl SumError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::OutOfRange { .. } | Self::Counts { .. } | Self::ForeignBases | Self::Taken => {
                Remedy::Correct
            }
            Self::NoCardLeft { .. } => Remedy::Recover,
            Self::Deadline { .. } => Remedy::WaitAgain,
            Self::Closed => Remedy::Reopen,
        }
    }
}

/// Why a card could not be readmitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadmitError {
    /// There is no such card.
    #[error("there is no card {index}; the indices are below {cards}")]
    NoSuchCard {
        /// Index of the card.
        index: usize,
        /// Number of cards.
        cards: usize,
    },
    /// The card could not be opened or used.
    #[error("card {card} could not be readmitted: {source}")]
    Card {
        /// The card's name.
        card: Arc<str>,
        /// The cause.
        #[source]
        source: MemberError,
    },
    /// The card did not recover, and it was passed already open, so it cannot be opened again.
    #[error(
        "card {card} did not recover: {source}; it was passed already open, so open it again and create new `Cards`"
    )]
    NotReopenable {
        /// The card's name.
        card: Arc<str>,
        /// Why it did not recover.
        #[source]
        source: MemberError,
    },
    /// The card did not answer in time. Its thread continues, and the card may still be readmitted.
    #[error("card {card} was not readmitted within {waited:?}; check its status, or try again")]
    Deadline {
        /// The card's name.
        card: Arc<str>,
        /// Time limit of the wait.
        waited: Duration,
    },
    /// The cards were closed, or belong to the parent of this process.
    #[error("the cards were closed, or the parent of this process opened them; open them in this process")]
    Closed,
}

impl ReadmitError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NoSuchCard { .. } => Remedy::Correct,
            Self::Card { source, .. } => source.remedy(),
            Self::NotReopenable { .. } | Self::Closed => Remedy::Reopen,
            Self::Deadline { .. } => Remedy::WaitAgain,
        }
    }
}
