//! The driver against the emulated card, over its socket.

mod asynchronous;
#[path = "../model/controls.rs"]
mod controls;
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
mod process;
mod quarantine;
mod strangers;
mod streams;
mod support;
mod switches;
mod waiting;
