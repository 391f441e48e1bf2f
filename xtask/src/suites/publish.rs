//! Every published crate packages as crates.io would take it.

use super::{Level, Suite};
use crate::packages::is_reachable;

const INDEX: &str = "index.crates.io:443";

pub const SUITE: Suite = Suite {
    name: "publish",
    about: "the crates could be published; with --full they also build from what is packaged",
    takes: 0.5,
    level: Level::Default,
    needs: &["cc"],
    run: |run| {
        let verify = if run.level == Level::Full { "" } else { "--no-verify" };
        let publish = format!("publish --workspace --dry-run --allow-dirty {verify}");
        run.check("packages", |run| {
            run.succeed(run.cargo(&publish)).map_err(|error| match is_reachable(INDEX) {
                true => error,
                false => {
                    error.context(format!("{INDEX} cannot be reached, and cargo publish needs the index"))
                }
            })
        });
        Ok(())
    },
};
