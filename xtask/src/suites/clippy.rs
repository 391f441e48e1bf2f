//! Clippy has nothing to say.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "clippy",
    about: "no warning in any target of the workspace",
    needs: &["cargo-clippy", "cc"],
    wants: &[],
    run: |run| {
        let lint = "clippy --workspace --exclude xdma-rtl --all-targets --all-features -- -D warnings";
        run.check("cargo clippy", |run| run.succeed(run.cargo(lint)));
        Ok(())
    },
};
