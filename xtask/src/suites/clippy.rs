//! Clippy has no warnings.

use super::{Level, PACKAGES, Suite};

pub const SUITE: Suite = Suite {
    name: "clippy",
    about: "no warnings in any target of the workspace",
    minutes: 1.0,
    level: Level::Quick,
    needs: &["cargo-clippy", "cc"],
    run: |run| {
        run.check_cargo(&format!("clippy {PACKAGES} --all-targets -- -D warnings"));
        // Excluded from `--all-targets`, since it runs in virtual machines.
        run.check_cargo(&format!("clippy {PACKAGES} --test vm -- -D warnings"));
        Ok(())
    },
};
