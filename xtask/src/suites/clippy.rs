//! Clippy has nothing to say.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "clippy",
    about: "no warning in any target of the workspace",
    needs: &["cargo-clippy", "cc"],
    wants: &[],
    run: |run| {
        let lint = "clippy --workspace --exclude xdma-rtl --all-targets --features arkworks,cli,halo2curves,tokio -- -D warnings";
        run.check("cargo clippy", |run| run.succeed(run.cargo(lint)));
        // Not among all targets, since it is no test of this machine.
        let lint = "clippy --test vm --features arkworks,cli,halo2curves,tokio -- -D warnings";
        run.check("the tests of virtual machines", |run| run.succeed(run.cargo(lint)));
        Ok(())
    },
};
