//! The driver with an emulated card: over a socket, or, in a virtual machine, under `vfio-pci`.

mod asynchronous;
mod endings;
mod errors;
mod faults;
mod interrupts;
mod lifetimes;
mod logging;
mod memory;
mod monitor;
mod msm;
mod quarantine;
mod reset_values;
mod streams;
mod switches;
mod two_cards;
mod waiting;
