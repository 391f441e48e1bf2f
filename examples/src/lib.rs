//! What the examples share: the option that names a card, made-up and filed pairs, a Groth16 proof with its sums left open, what the
//! kernel's driver would have needed, numbers for people.

pub mod card;
pub mod data;
pub mod first;
pub mod groth16;
pub mod human;
pub mod kernel_driver;
pub mod sums;
