//! The code is formatted.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "fmt",
    about: "every file is as rustfmt writes it",
    needs: &["cargo-fmt"],
    wants: &[],
    run: |run| {
        run.check("cargo fmt --check", |run| run.succeed(run.cargo("fmt --all --check")));
        Ok(())
    },
};
