//! Prepares a host for cards on `vfio-pci`. This is the implementation of the program `vfio-setup`; tests replace the root
//! directory and the kernel.
//!
//! Before the first write, all checks are made and all steps are planned ([`Plan`]). Each write is read back, and a failure
//! reverts the steps before it. A function in use keeps its driver, and settings made by others are not overwritten.

#![deny(missing_docs)]

pub mod accounts;
mod advice;
mod apply;
mod binding;
pub mod claims;
#[doc(hidden)]
pub mod cli;
pub mod doctor;
mod error;
pub mod f2;
mod files;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod holders;
mod host;
pub mod hugepages;
pub mod kernel;
pub mod manual;
pub mod mode;
pub mod persist;
mod plan;
pub mod presence;
pub mod release;
pub mod reset;
pub mod select;
mod shell;
pub mod status;
mod step;
pub mod text;
pub mod udev;
pub mod usage;

pub use advice::bind_command;
pub use error::{Refusal, SetupError, file_remedy};
pub use host::Host;
pub use plan::{BindOptions, Plan};
pub use step::{Step, StepReport};

/// The exit codes of the binary.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  success, or nothing to do; `doctor`: the card can be used; `doctor
     --host`: the host is ready for one
  1  failed; all changes were reverted, except that a loaded module
     stays loaded
  2  wrong command line
  3  refused, and nothing was changed: not found, in use, not permitted,
     or set up by someone else
  4  `doctor` found a problem
  5  failed, and some changes could not be reverted (the message lists
     them); `undo`: files that were edited were kept";
