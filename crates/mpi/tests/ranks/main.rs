//! Jobs of several ranks, started by `mpirun`, with emulated cards.
//!
//! The tests skip if `mpirun` is not installed. One job runs at a time, since each has several ranks with several cards.

mod cards;
mod hosts;
mod job;
mod ranks;
mod sums;
