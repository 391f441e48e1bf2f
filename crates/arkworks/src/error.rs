//! Error types.

use xdma::Remedy;
use xdma::msm::curve::CurveError;
use xdma::msm::{DataError, DesignError, JobError, MsmOpenError, MsmSubmitError, PrepareError};

/// Why a [`Context`](crate::Context) could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The MSM design could not be opened.
    #[error(transparent)]
    Msm(#[from] MsmOpenError),
    /// The design computes nothing, or only tiny MSMs.
    #[error(
        "the MSM design on the card is not usable: {}; load another image",
        if *.stub { "it has a stub core, which does not compute".into() } else { format!("its jobs have at most {max_pairs} pairs") }
    )]
    Unusable {
        /// Whether the design has a stub core.
        stub: bool,
        /// Maximum number of pairs of a job.
        max_pairs: u32,
    },
    /// The worker thread could not be created.
    #[error("the worker thread could not be created: {0}; raise the thread limit (`ulimit -u`)")]
    Thread(#[from] std::io::Error),
    /// The crossover could not be measured.
    #[error("the crossover could not be measured: {0}")]
    Crossover(#[from] MsmError),
}

impl ContextError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Msm(error) => error.remedy(),
            Self::Unusable { .. } => Remedy::Unsupported,
            Self::Thread(_) => Remedy::PrepareHost,
            Self::Crossover(error) => error.remedy(),
        }
    }
}

/// Why an MSM could not be computed on the card, or why the card could not be returned to service. The CPU computes the MSM
/// instead, so the caller of an MSM sees this error only in logs and in
/// [`ComputedOn::CpuAfterFailure`](crate::ComputedOn::CpuAfterFailure).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MsmError {
    /// DMA memory for points or scalars could not be allocated or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A scalar is not below the group order, so the card does not accept it.
    #[error("scalar {index} is not below the group order r; reduce it modulo r")]
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
    /// The result is not a point on the curve.
    #[error("the card's result is not a point on the curve: {0}; check the card with `xdma selftest`")]
    InvalidPoint(#[from] CurveError),
    /// The result does not match the MSM over the tags.
    #[error(
        "the card's result is wrong: it does not match the MSM over the tags; check the card with `xdma selftest`"
    )]
    TagMismatch,
    /// The result differs from the CPU's.
    #[error(
        "the card's result for {pairs} pairs differs from the CPU's; check the card with `xdma selftest`"
    )]
    WrongResult {
        /// Number of pairs.
        pairs: usize,
    },
    /// The card could not be recovered after an error.
    #[error(transparent)]
    Recover(DesignError),
    /// The card is out of service after earlier failures.
    #[error("the card is out of service after earlier failures; fix the cause, then call `Context::resume`")]
    OutOfService,
}

impl MsmError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Data(error) => error.remedy(),
            Self::Prepare(error) => error.remedy(),
            Self::Submit(error) => error.remedy(),
            Self::Job(error) => error.remedy(),
            Self::Recover(error) => error.remedy(),
            Self::NotCanonical { .. } => Remedy::Correct,
            Self::InvalidPoint(_) | Self::WrongResult { .. } | Self::TagMismatch | Self::OutOfService => {
                Remedy::Recover
            }
        }
    }
}

/// Why a key could not be registered. Contains the key.
#[derive(thiserror::Error)]
#[error("the key's points could not be registered: {source}")]
#[non_exhaustive]
pub struct RegisterKeyError<K> {
    /// The key, unchanged.
    pub key: K,
    /// The cause.
    #[source]
    pub source: RegisterError,
}

impl<K> std::fmt::Debug for RegisterKeyError<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

/// Why points could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// DMA memory for the points could not be allocated or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The points overlap points that are already registered.
    #[error(
        "the points `{0}` overlap points that are already registered; use the `OnCard` that owns those points"
    )]
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
