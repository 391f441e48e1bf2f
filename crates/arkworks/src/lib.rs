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
#[cfg(feature = "poly-commit")]
mod poly_commit;
mod registry;
mod report;
mod slots;
mod sum;
mod tags;
mod worker;

pub use context::{Context, OnError, Options};
pub use crossover::{Crossover, Timing};
pub use curve::CardBn254;
pub use error::{ContextError, OnCardError, RegisterError, SumError};
pub use key::{Key, OnCard};
pub use report::{Place, Stats, Sum};
