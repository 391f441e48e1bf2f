#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod context;
mod crossover;
pub mod curve;
mod error;
#[cfg(feature = "groth16")]
pub mod groth16;
mod key;
mod msm;
#[cfg(feature = "poly-commit")]
mod poly_commit;
mod registry;
mod stats;

pub use context::{Context, ContextOptions, OnError};
pub use crossover::{Crossover, Timing};
pub use curve::CardBn254;
pub use error::{ContextError, MsmError, RegisterError, RegisterKeyError};
pub use key::{MsmKey, OnCard};
pub use stats::{ComputedOn, ContextStats, MsmReport};
