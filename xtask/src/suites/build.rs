//! Compiles everything that the suites `tests` and `vm` run. It is a separate suite so that the table shows the compile time.

use super::{Level, PACKAGES, Suite};

pub const SUITE: Suite = Suite {
    name: "build",
    about: "libraries, programs, examples and tests compile",
    minutes: 6.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        run.check_cargo(&format!("test --no-run {PACKAGES}"));
        // Excluded from the default test targets, since it runs in virtual machines.
        run.check_cargo(&format!("test --no-run {PACKAGES} --test vm"));
        Ok(())
    },
};
