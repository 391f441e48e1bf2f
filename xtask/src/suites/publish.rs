//! Packages every published crate as for the registry.

use super::{Level, Suite};

pub const SUITE: Suite = Suite {
    name: "publish",
    about: "the crates can be published; with --full they also build from their packages",
    minutes: 0.1,
    level: Level::Default,
    needs: &["c++", "cc", "verilator"],
    run: |run| {
        let verify = if run.level == Level::Full { "" } else { "--no-verify" };
        let publish = format!("publish --workspace --dry-run --allow-dirty {verify}");
        run.check_cargo(&publish);
        Ok(())
    },
};
