//! Errors.

use xdma::Remedy;
use xdma::msm::curve::CurveError;
use xdma::msm::{DataError, DesignError, JobError, MsmOpenError, MsmSubmitError, PrepareError};

/// Why the card could not be used for sums.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The MSM design could not be opened.
    #[error(transparent)]
    Msm(#[from] MsmOpenError),
    /// The thread that serves the card could not be created.
    #[error(
        "the thread that serves the card could not be created: {0}; raise the limit on threads (`ulimit -u`)"
    )]
    Thread(#[from] std::io::Error),
    /// The comparison of card and CPU failed.
    #[error("the card could not be compared with the CPU: {0}")]
    Comparison(#[from] SumError),
}

impl ContextError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Msm(error) => error.remedy(),
            Self::Thread(_) => Remedy::PrepareHost,
            Self::Comparison(error) => error.remedy(),
        }
    }
}

/// Why a sum was not computed on the card. Such sums are computed on the CPU, so programs see this error in logs, and in
/// [`Place::Failed`](crate::Place::Failed).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SumError {
    /// The memory of the points or scalars could not be allocated or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A scalar is not below the order of the group, so the card does not accept it.
    #[error("scalar {index} is not below r, the order of the group; reduce it modulo r")]
    NotCanonical {
        /// Index of the scalar.
        index: usize,
    },
    /// The job could not be prepared.
    #[error(transparent)]
    Prepare(PrepareError),
    /// The job could not be submitted.
    #[error(transparent)]
    Submit(MsmSubmitError),
    /// The card did not return a result.
    #[error(transparent)]
    Job(JobError),
    /// The result is not a point of the curve.
    #[error("the card's result is not a point: {0}; check the card with `xdma selftest`")]
    Result(#[from] CurveError),
    /// The sum over the tags shows that the result is wrong.
    #[error(
        "the card's result is wrong: it does not fit the sum over the tags; check the card with `xdma selftest`"
    )]
    Wrong,
    /// The card could not be recovered after an error.
    #[error(transparent)]
    Recover(DesignError),
    /// The card is out of service because of earlier failures.
    #[error("the card is out of service after earlier failures; repair it, then call `Context::resume`")]
    OutOfService,
}

impl SumError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Data(error) => error.remedy(),
            Self::Prepare(error) => error.remedy(),
            Self::Submit(error) => error.remedy(),
            Self::Job(error) => error.remedy(),
            Self::Recover(error) => error.remedy(),
            Self::NotCanonical { .. } => Remedy::Correct,
            Self::Result(_) | Self::Wrong | Self::OutOfService => Remedy::Recover,
        }
    }
}

/// Why a key was not put on the card.
#[derive(thiserror::Error)]
#[error("the key was not put on the card: {source}")]
#[non_exhaustive]
pub struct OnCardError<K> {
    /// The key, unchanged.
    pub key: K,
    /// The cause.
    #[source]
    pub source: RegisterError,
}

impl<K> std::fmt::Debug for OnCardError<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

/// Why points were not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Memory for the points could not be allocated or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The points are borrowed from a key that is on a card already.
    #[error("the points `{0}` are already on a card, by another owner; use that owner")]
    Overlap(&'static str),
}

impl RegisterError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Data(error) => error.remedy(),
            Self::Overlap(_) => Remedy::Correct,
        }
    }
}
