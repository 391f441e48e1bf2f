//! Every published crate packages as the registry would take it.

use super::{Level, Suite};

pub const SUITE: Suite = Suite {
    name: "publish",
    about: "the crates could be published; with --full they also build from what is packaged",
    takes: 0.1,
    level: Level::Default,
    needs: &["c++", "cc", "verilator"],
    run: |run| {
        let verify = if run.level == Level::Full { "" } else { "--no-verify" };
        let publish = format!("publish --workspace --dry-run --allow-dirty {verify}");
        run.check_cargo(&publish);
        Ok(())
    },
};
