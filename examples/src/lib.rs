//! Code that the examples share: the `--card` option, the options for MSMs of provers, input data, a real circuit, the cost of
//! the same transfers through the kernel's driver, and number formatting.

pub mod card;
pub mod data;
pub mod first_error;
pub mod human;
pub mod kernel_driver;
pub mod msm_args;
pub mod semaphore;
mod witness;
