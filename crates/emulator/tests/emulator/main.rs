//! The emulated card, end to end: the `vfio_user` crate's client, a memory file, raw register accesses.

mod channels;
mod errors;
mod host;
mod hostile;
mod interrupts;
mod posted;
mod protocol;
mod service;
mod streams;
mod switches;
mod watch;
