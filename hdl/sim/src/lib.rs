//! The MSM design of `hdl/rtl`, simulated cycle by cycle.
//!
//! [`Model`] is the design with its ports, advanced clock by clock. [`Master`] drives those ports like the shell of a card: it
//! accepts whole bursts, follows the AXI rules, keeps several bursts outstanding and counts clocks. With the feature
//! `test-designs`, `Unit` is one of the test tops in `hdl/sim/sv`.
//!
//! The simulation is deterministic: the same calls take the same number of cycles on every machine.

mod master;
mod model;
mod ports;
#[cfg(feature = "test-designs")]
mod unit;

pub use master::{Burst, Master, OUTSTANDING, ReadTag, Response, Throttle, WriteTag};
pub use model::{Model, Variant};
pub use ports::Ports;
#[cfg(feature = "test-designs")]
pub use unit::{Top, Unit};
