//! `cargo xtask audit`: what takes too long, or wants tools too rare, for `cargo xtask test`. The rows are suites like those.

mod address;
mod dependencies;
mod memcheck;
mod nightly;

use crate::suites::Stage;

/// All of them, in the order in which they run.
pub const AUDITS: &[Stage] =
    &[&[&[dependencies::SUITE, nightly::MIRI, memcheck::SUITE, address::SUITE, nightly::THREAD]]];

/// The tests that reach `unsafe` code: the library's own, the driver on the emulated card, the emulated card alone, and a card
/// that means harm.
const TESTS: &str = "--lib --test driver --test emulator --test hostile --test pool";
