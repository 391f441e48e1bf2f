//! Every published crate packages as crates.io would take it.

use super::{Level, Suite};
use crate::packages::is_reachable;
use anyhow::Context;

const INDEX: &str = "index.crates.io:443";

pub const SUITE: Suite = Suite {
    name: "publish",
    about: "the crates could be published; with --full they also build from what is packaged",
    takes: 0.5,
    level: Level::Default,
    needs: &["cc"],
    wants: &[],
    run: |run| {
        let verify = if run.level == Level::Full { "" } else { "--no-verify" };
        let publish = format!("publish --workspace --dry-run --allow-dirty {verify}");
        run.check("cargo publish --dry-run", |run| {
            let published = run.succeed(run.cargo(&publish));
            match published.is_err() && !is_reachable(INDEX) {
                true => published
                    .with_context(|| format!("{INDEX} cannot be reached; cargo publish needs the index")),
                false => published,
            }
        });
        Ok(())
    },
};
