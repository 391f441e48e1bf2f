//! Jobs of several ranks, started by `mpirun`, with emulated cards.
//!
//! The tests skip if `mpirun` is not installed.

mod cards;
mod hosts;
mod job;
mod ranks;
mod sums;
