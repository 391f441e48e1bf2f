//! `cargo xtask audit`: what takes too long, or needs tools too rare, for `cargo xtask test`. The rows are suites like those.

mod dependencies;
mod memcheck;
mod miri;
mod sanitizers;

use crate::suites::Stage;

/// All audits, in the order in which they run.
pub const AUDITS: &[Stage] =
    &[&[&[dependencies::SUITE, miri::SUITE, memcheck::SUITE, sanitizers::ADDRESS, sanitizers::THREAD]]];
