//! Clippy has no warnings.

use super::{Level, PACKAGES, Suite};

pub const SUITE: Suite = Suite {
    name: "clippy",
    about: "no warning in any target of the workspace",
    takes: 1.0,
    level: Level::Quick,
    needs: &["cargo-clippy", "cc"],
    run: |run| {
        run.check_cargo(&format!("clippy {PACKAGES} --all-targets -- -D warnings"));
        // Not among all targets, since its tests are for virtual machines.
        run.check_cargo(&format!("clippy {PACKAGES} --test vm -- -D warnings"));
        Ok(())
    },
};
