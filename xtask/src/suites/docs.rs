//! Builds the documentation with docs.rs's settings and with default features, and checks its links.

use super::{Level, Suite};
use crate::metadata::published;
use std::collections::{BTreeMap, BTreeSet};

pub const SUITE: Suite = Suite {
    name: "docs",
    about: "the documentation of every published crate is complete and has no broken links",
    minutes: 2.0,
    level: Level::Default,
    needs: &["cc"],
    run: |run| {
        // One command for all packages with the same settings: for each alone, cargo would check the dependencies again.
        let mut builds: BTreeMap<_, String> = BTreeMap::new();
        for package in published(run)? {
            // The driver is built alone, since other packages enable its features.
            let (alone, simulated) = (package.name == "xdma", package.name.starts_with("xdma-rtl"));
            for settings in BTreeSet::from([Default::default(), package.docs_rs()]) {
                *builds.entry((settings, alone, simulated)).or_default() +=
                    &format!(" --package {}", package.name);
            }
        }
        for (((options, flags), _, simulated), packages) in builds {
            let arguments = format!("doc --no-deps{packages} {options}");
            run.check(&arguments, |run| {
                let mut cargo = run.cargo(&arguments);
                cargo.env("RUSTDOCFLAGS", format!("-D warnings {flags}"));
                if simulated {
                    // As on docs.rs, which has no Verilator. A separate directory keeps the build script of other builds current.
                    cargo.env("DOCS_RS", "1").env("CARGO_TARGET_DIR", run.workspace.target.join("docs-rs"));
                }
                run.succeed(cargo)
            });
        }
        Ok(())
    },
};
