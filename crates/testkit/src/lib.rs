//! What tests and benches of several packages share.

pub mod bench;
pub mod command;
pub mod controls;
pub mod corpus;
pub mod model;
pub mod process;
