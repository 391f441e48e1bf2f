//! Real programs on the device files of an emulated card.

mod exclusive;
mod fio;
mod hostile;
mod memory;
mod memory_mapped;
mod numpy;
mod streams;
mod support;
mod tools;
