//! The suites. To add one, add a file to this directory, or a constant to `checks.rs`, and a line to [`SUITES`].

mod benches;
mod checks;
mod counts;
mod docs;
mod features;
mod hdl;
mod release;
mod rig;
mod tests;
mod vm;

use crate::run::Run;
use crate::table::table;
pub use counts::count;

/// A suite: one row of the table.
pub struct Suite {
    /// Name on the command line.
    pub name: &'static str,
    /// What it checks, for the help text.
    pub about: &'static str,
    /// Duration on two processors, from a clean clone.
    pub minutes: f64,
    /// The lowest level that includes it.
    pub level: Level,
    /// Required programs; the suite is skipped if one is missing. See [`crate::packages`].
    pub needs: &'static [&'static str],
    /// Runs the checks and records them in the run's tally. An error counts as one more failure.
    pub run: fn(&mut Run) -> anyhow::Result<()>,
}

/// How much to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// About two minutes with a warm build.
    Quick,
    /// The level that continuous integration runs.
    Default,
    /// About an hour.
    Full,
}

/// Suites that run in sequence.
pub type Lane = &'static [Suite];
/// Lanes that run in parallel.
pub type Stage = &'static [Lane];

/// All suites. No check of the first two stages depends on timing. Those of the third often wait, so they run in three lanes.
pub const SUITES: &[Stage] = &[
    &[&[checks::FMT, checks::BUILD], &[benches::SUITE, rig::SUITE]],
    &[&[checks::CLIPPY, features::SUITE, docs::SUITE, checks::PUBLISH], &[hdl::SUITE, checks::RTL]],
    &[&[vm::SUITE, counts::SUITE, release::SUITE], &[tests::SUITE], &[hdl::PYTHON, checks::MPI]],
];

/// The packages for builds, clippy and tests: always the same, so that each crate is compiled once. The excluded ones need Verilator.
pub const PACKAGES: &str = "--workspace --exclude xdma-rtl --exclude xdma-rtl-dma";

/// All packages, with the simulated design and engine. Needs Verilator, except for clippy.
pub const SIMULATED: &str = "--workspace --features rtl,xdma-rtl/test-designs";

/// Returns the suites of all stages.
pub fn all(stages: &'static [Stage]) -> impl Iterator<Item = &'static Suite> {
    stages.iter().copied().flatten().copied().flatten()
}

/// Returns the list of suites for `--help`.
pub fn help(stages: &'static [Stage]) -> String {
    let mut table = table(&["suite", "minutes", "runs", "what it checks"]);
    for suite in all(stages) {
        let level = match suite.level {
            Level::Quick => "always",
            Level::Default => "without --quick",
            Level::Full => "with --full",
        };
        table.add_row([suite.name, &suite.minutes.to_string(), level, suite.about]);
    }
    format!("Suites, and how long each takes on two processors from a clean clone:\n\n{table}")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn help_lists_every_suite() {
        let help = help(SUITES);
        assert!(all(SUITES).all(|suite| help.contains(suite.name) && help.contains(suite.about)), "{help}");
    }
}
