//! The suites. A new one is a file beside this one and a line in [`SUITES`].

mod arguments;
mod benches;
mod clippy;
mod compile;
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

/// Suites that run one after the other.
pub type Lane = &'static [Suite];

/// Lanes that run side by side.
pub type Stage = &'static [Lane];

/// All of them, stage by stage: the quick ones first. Most of what the first stage does is compiling; its lanes use different
/// directories of cargo's, and nothing in them depends on how long something takes.
pub const SUITES: &[Stage] = &[
    &[
        &[fmt::SUITE, features::SUITE, clippy::SUITE, docs::SUITE, compile::SUITE],
        &[hdl::SUITE, examples::SUITE, arguments::SUITE, rtl::SUITE],
    ],
    &[&[tests::SUITE, benches::SUITE, vm::SUITE, counts::SUITE]],
];

/// The suites of all stages.
pub fn all(stages: &'static [Stage]) -> impl Iterator<Item = &'static Suite> {
    stages.iter().copied().flatten().copied().flatten()
}
