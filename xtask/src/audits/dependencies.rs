//! Licences, sources, duplicates and known weaknesses of all dependencies.

use crate::packages::is_reachable;
use crate::suites::{Level, Suite};

pub const SUITE: Suite = Suite {
    name: "dependencies",
    about: "licences, sources, duplicates and known weaknesses of all dependencies",
    takes: 0.2,
    level: Level::Quick,
    needs: &["cargo-deny"],
    run: |run| {
        run.check_cargo("deny --offline check licenses sources bans");
        // cargo-deny downloads the list of weaknesses.
        if is_reachable("github.com:443") {
            run.check_cargo("deny check advisories");
        } else {
            run.tally
                .skipped
                .push("known weaknesses: github.com, where their list is, cannot be reached".into());
        }
        Ok(())
    },
};
