//! Compiles everything that the suites `tests` and `vm` run. It is a separate suite so that the table shows the compile time.

use super::{Level, PACKAGES, Suite};

pub const SUITE: Suite = Suite {
    name: "build",
    about: "libraries, programs, examples and tests compile",
    takes: 6.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        run.check_cargo(&format!("test --no-run {PACKAGES}"));
        // For virtual machines, and therefore not among the tests of this one.
        run.check_cargo(&format!("test --no-run {PACKAGES} --test vm"));
        Ok(())
    },
};
