//! The driver against the emulated card, over its socket.

mod errors;
mod faults;
mod interrupts;
mod lifetimes;
mod memory;
mod msm;
mod support;
mod switches;
