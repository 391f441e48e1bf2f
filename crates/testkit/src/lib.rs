//! Code shared by the tests and benches of several packages.

#[cfg(feature = "driver")]
pub mod bench;
pub mod board;
#[cfg(feature = "driver")]
pub mod command;
#[cfg(feature = "driver")]
pub mod controls;
pub mod corpus;
#[cfg(feature = "driver")]
pub mod model;
#[cfg(feature = "driver")]
pub mod process;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "terminal")]
pub mod terminal;
