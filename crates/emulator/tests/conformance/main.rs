//! Conformance of the emulated card.
//!
//! Everything here goes through raw vfio-user accesses, with numbers from PG195 (section titles are quoted), from the PCI
//! specifications, and from what published drivers write. No name of the driver's or of its register map is used,
//! so that a misreading there is not repeated here.

mod chains;
mod config_space;
mod credits;
mod edges;
mod fabric;
mod faults;
mod host;
mod identity;
mod interrupts;
mod perf;
mod probe;
mod protocol;
mod raw;
mod registers;
mod reset;
mod rig;
mod sequences;
mod streams;
mod transfers;
mod write_back;
