//! The suites. A new one is a file beside this one and a line in [`SUITES`].

mod benches;
mod build;
mod clippy;
mod counts;
mod docs;
mod features;
mod fmt;
mod hdl;
mod publish;
mod release;
mod rig;
mod rtl;
mod tests;
mod vm;

use crate::run::Run;
use crate::table::table;

pub use counts::count;

/// A row of the table.
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Minutes that it takes on two processors, from a clean clone.
    pub takes: f64,
    /// The lowest level at which it runs without being named.
    pub level: Level,
    /// Programs without which it is skipped; see [`crate::packages`].
    pub needs: &'static [&'static str],
    /// Counts into the run's tally; an error is one more failure.
    pub run: fn(&mut Run) -> anyhow::Result<()>,
}

/// How much to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Two minutes on a warm build.
    Quick,
    /// What continuous integration runs.
    Default,
    /// An hour.
    Full,
}

/// Suites that run one after the other.
pub type Lane = &'static [Suite];

/// Lanes that run side by side.
pub type Stage = &'static [Lane];

/// All suites. In the first stage most is compiled, while the other lane runs the SMT solvers of `hdl` and counts instructions; in
/// the second the examples are linked anew with the simulated design. No check of these two depends on timing.
pub const SUITES: &[Stage] = &[
    &[&[fmt::SUITE, build::SUITE], &[hdl::SUITE, benches::SUITE, rig::SUITE]],
    &[&[clippy::SUITE, features::SUITE, docs::SUITE, publish::SUITE], &[rtl::SUITE]],
    &[&[vm::SUITE, counts::SUITE, release::SUITE], &[tests::SUITE]],
];

/// The packages that builds, clippy and tests select, so that cargo resolves one set of features and compiles each crate once.
/// `xdma-rtl` is left out because it needs Verilator.
pub const PACKAGES: &str = "--workspace --exclude xdma-rtl";

/// The suites of all stages.
pub fn all(stages: &'static [Stage]) -> impl Iterator<Item = &'static Suite> {
    stages.iter().copied().flatten().copied().flatten()
}

/// The suites for `--help`.
pub fn help(stages: &'static [Stage]) -> String {
    let mut table = table(&["suite", "minutes", "runs", "what it shows"]);
    for suite in all(stages) {
        let level = match suite.level {
            Level::Quick => "always",
            Level::Default => "without --quick",
            Level::Full => "with --full",
        };
        table.add_row([suite.name, &suite.takes.to_string(), level, suite.about]);
    }
    format!("Suites, with the time each takes on two processors from a clean clone:\n\n{table}")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn help_names_every_suite() {
        let help = help(SUITES);
        assert!(all(SUITES).all(|suite| help.contains(suite.name) && help.contains(suite.about)), "{help}");
    }
}
