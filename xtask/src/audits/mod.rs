//! `cargo xtask audit`: suites that take too long for `cargo xtask test`, or need uncommon tools.

mod dependencies;
mod memcheck;
mod miri;
mod sanitizers;

use crate::suites::Stage;

/// All audits, in the order in which they run.
pub const AUDITS: &[Stage] =
    &[&[&[dependencies::SUITE, miri::SUITE, memcheck::SUITE, sanitizers::ADDRESS, sanitizers::THREAD]]];
