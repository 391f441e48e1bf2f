//! Several emulated cards as one engine.

mod common;
mod failures;
mod lifetimes;
mod scheduling;
mod sums;
