//! Every test compiles: what the suite `tests` needs, made while the other lane leaves processors idle.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "compile",
    about: "every test compiles",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        run.check("cargo test --no-run", |run| {
            run.succeed(run.cargo("test --no-run --workspace --exclude xdma-rtl"))
        });
        Ok(())
    },
};
