//! What examples, benches and tests share: made-up and filed pairs, what the kernel's driver would have needed, numbers for
//! people. Not part of the library.

// Everyone who includes this uses a part of it.
#![allow(dead_code)]

pub mod card;
pub mod data;
pub mod first;
pub mod human;
pub mod kernel_driver;
