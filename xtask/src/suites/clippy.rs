//! Clippy has nothing to say.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "clippy",
    about: "no warning in any target of the workspace",
    needs: &["cargo-clippy", "cc"],
    wants: &[],
    run: |run| {
        // What needs Verilator is linted by the suites `hdl` and `rtl`.
        let what = "--workspace --exclude xdma-rtl --all-targets --features arkworks,cli,halo2curves";
        let lint = &format!("clippy {what} -- -D warnings");
        run.check("cargo clippy", |run| run.succeed(run.cargo(lint)));
        Ok(())
    },
};
