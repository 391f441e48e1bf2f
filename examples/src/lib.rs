//! Code that the examples share: the `--card` option, input data, a Groth16 proof whose G1 sums are computed elsewhere, the cost of
//! the same transfers through the kernel's driver, and number formatting.

pub mod card;
pub mod data;
pub mod first_error;
pub mod groth16;
pub mod human;
pub mod kernel_driver;
pub mod proof_jobs;
