//! Licences, sources, duplicates and known vulnerabilities of all dependencies.

use crate::packages::is_reachable;
use crate::suites::{Level, Suite};

pub const SUITE: Suite = Suite {
    name: "dependencies",
    about: "licences, sources, duplicates and known vulnerabilities of all dependencies",
    minutes: 0.2,
    level: Level::Quick,
    needs: &["cargo-deny"],
    run: |run| {
        run.check_cargo("deny --workspace --offline check licenses sources bans");
        // cargo-deny downloads the advisory database.
        if is_reachable("github.com:443") {
            run.check_cargo("deny --workspace check advisories");
        } else {
            run.tally.skipped.push(
                "known vulnerabilities: cannot reach github.com, which hosts the advisory database".into(),
            );
        }
        Ok(())
    },
};
