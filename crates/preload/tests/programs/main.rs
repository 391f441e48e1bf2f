//! Real programs on the device files of an emulated card.

mod exclusive;
mod hostile;
mod memory_mapped;
mod streams;
mod support;
mod tools;
