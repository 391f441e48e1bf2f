//! Licences, sources, duplicates and known weaknesses of everything that is depended on.

use crate::packages;
use crate::suites::Suite;

pub const SUITE: Suite = Suite {
    name: "dependencies",
    about: "licences, sources, duplicates, and known weaknesses of what is depended on",
    needs: &["cargo-deny"],
    wants: &[],
    run: |run| {
        run.check("licences, sources, duplicates", |run| {
            run.succeed(run.cargo("deny --offline check licenses sources bans"))
        });
        // The list of weaknesses is fetched from where cargo-deny finds it.
        match packages::reachable("github.com:443") {
            true => run.check("known weaknesses", |run| run.succeed(run.cargo("deny check advisories"))),
            false => run
                .tally
                .skipped
                .push("known weaknesses: github.com, where their list is, cannot be reached".into()),
        }
        Ok(())
    },
};
