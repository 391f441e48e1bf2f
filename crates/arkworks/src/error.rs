//! Error types.

use xdma::Remedy;
use xdma_cards::{CardsError, ReadmitError, ScalarsError, SumError};

/// Why a [`Context`](crate::Context) could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// A card could not be opened or used.
    #[error(transparent)]
    Cards(#[from] CardsError),
    /// The crossover could not be measured.
    #[error("the crossover could not be measured: {0}")]
    Crossover(#[from] MsmError),
}

impl ContextError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Cards(error) => error.remedy(),
            Self::Crossover(error) => error.remedy(),
        }
    }
}

/// Why an MSM could not be computed on the cards, or why a card could not be returned to service. The CPU computes the MSM instead,
/// so the caller of an MSM sees this error only in logs and in
/// [`ComputedOn::CpuAfterFailure`](crate::ComputedOn::CpuAfterFailure).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MsmError {
    /// The points could not be registered, to measure the crossover.
    #[error(transparent)]
    Register(#[from] xdma_cards::RegisterError),
    /// A scalar is not below the group order.
    #[error(transparent)]
    Scalars(#[from] ScalarsError),
    /// No card computed the sum.
    #[error(transparent)]
    Sum(#[from] SumError),
    /// The result differs from the CPU's.
    #[error(
        "the result of the cards for {pairs} pairs differs from the CPU's; check them with `xdma selftest`"
    )]
    WrongResult {
        /// Number of pairs.
        pairs: usize,
    },
    /// A card could not be returned to service.
    #[error(transparent)]
    Readmit(#[from] ReadmitError),
    /// All cards are out of service after earlier failures.
    #[error(
        "all cards are out of service after earlier failures; fix the cause, then call `Context::resume`"
    )]
    OutOfService,
}

impl MsmError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Register(error) => error.remedy(),
            Self::Scalars(_) => Remedy::Correct,
            Self::Sum(error) => error.remedy(),
            Self::Readmit(error) => error.remedy(),
            Self::WrongResult { .. } | Self::OutOfService => Remedy::Recover,
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
    /// A card has no memory for the points, or a point is invalid.
    #[error(transparent)]
    Cards(#[from] xdma_cards::RegisterError),
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
            Self::Cards(error) => error.remedy(),
            Self::Overlap(_) => Remedy::Correct,
        }
    }
}
