//! Prepares a host for cards on `vfio-pci`: what `vfio-setup` does, against a root directory that tests can replace.
//!
//! Everything is checked, and every step written down ([`Plan`]), before the first write. Each write is read back. A
//! failure half-way takes back what was done. A function in use is never taken away, and nothing is overwritten that
//! somebody else set.

#![deny(missing_docs)]

pub mod accounts;
mod apply;
pub mod doctor;
mod error;
mod files;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod holders;
mod host;
pub mod hugepages;
pub mod ids;
pub mod kernel;
pub mod mode;
pub mod persist;
mod plan;
pub mod select;
pub mod status;
mod step;
pub mod text;
pub mod usage;

pub use error::{Refusal, SetupError};
pub use host::Host;
pub use plan::{BindOptions, Plan};
pub use step::{Step, StepReport};

/// The exit codes of the binary.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done, or there was nothing to do; `doctor`: nothing stands in the way
  1  it failed, and what had been done was undone, but for a module that was loaded
  2  the command line is wrong
  3  refused, and nothing was written: in use, not there, not permitted, somebody else's
  4  `doctor` found something in the way
  5  it failed half-way, and not all could be undone: the message names what is left";
