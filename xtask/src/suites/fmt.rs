//! Checks that the code is formatted.

use super::{Level, Suite};

pub const SUITE: Suite = Suite {
    name: "fmt",
    about: "all code is formatted with rustfmt",
    minutes: 0.1,
    level: Level::Quick,
    needs: &["cargo-fmt"],
    run: |run| {
        run.check_cargo("fmt --all --check");
        Ok(())
    },
};
