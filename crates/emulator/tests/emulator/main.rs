//! End-to-end tests of the emulated card, with the client of the `vfio_user` crate, a memory file and raw register accesses.

mod channels;
mod errors;
mod host;
mod hostile;
mod interrupts;
mod posted;
mod protocol;
mod released_memory;
mod service;
mod streams;
mod switches;
