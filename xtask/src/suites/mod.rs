//! The suites. A new one is a file beside this one and a line in [`SUITES`].

mod benches;
mod clippy;
mod counts;
mod docs;
mod examples;
mod features;
mod fmt;
mod hdl;
mod rtl;
mod tests;
mod vm;

use crate::run::Run;

/// A row of the table.
pub struct Suite {
    /// How it is named on the command line.
    pub name: &'static str,
    /// What it shows, for whoever watches.
    pub about: &'static str,
    /// Programs without which it is skipped; see [`crate::packages`].
    pub needs: &'static [&'static str],
    /// Programs without which it runs, but skips some checks.
    pub wants: &'static [&'static str],
    /// Counts into the run's tally; an error is one more failure.
    pub run: fn(&mut Run) -> anyhow::Result<()>,
}

/// All of them, in the order in which they run: the quick ones first.
pub const SUITES: &[Suite] = &[
    fmt::SUITE,
    features::SUITE,
    clippy::SUITE,
    docs::SUITE,
    tests::SUITE,
    examples::SUITE,
    hdl::SUITE,
    rtl::SUITE,
    benches::SUITE,
    vm::SUITE,
    counts::SUITE,
];
