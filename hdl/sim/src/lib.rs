//! The MSM design of `hdl/rtl`, simulated cycle by cycle.
//!
//! [`Model`] is the design with its ports: one call a clock. [`Master`] is what stands before it on a card: it takes whole bursts, keeps
//! the AXI rules, has several outstanding, and counts clocks. [`Unit`] is one of the test tops of `hdl/sim/sv`.
//!
//! Everything is deterministic: the same calls give the same cycles on every machine.

mod master;
mod model;
mod ports;
mod unit;

pub use master::{Burst, Master, OUTSTANDING, Pace, ReadTag, Response, WriteTag};
pub use model::{Model, Variant};
pub use ports::Ports;
pub use unit::{Top, Unit};
