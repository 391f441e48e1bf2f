//! The published provers of arkworks, with emulated cards.

mod commitments;
mod common;
mod faults;
mod groth16;
mod keys;
mod several;
