//! The driver against the emulated card, over its socket.

mod asynchronous;
mod endings;
mod errors;
mod faults;
mod interrupts;
mod leftovers;
mod lifetimes;
mod memory;
mod monitor;
mod msm;
mod observed;
mod quarantine;
mod strangers;
mod streams;
mod switches;
mod waiting;
