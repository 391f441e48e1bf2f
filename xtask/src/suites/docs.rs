//! Builds the documentation with docs.rs's settings and with default features, and checks its links.

use super::{Level, Suite};
use crate::metadata::published;
use std::collections::BTreeSet;

pub const SUITE: Suite = Suite {
    name: "docs",
    about: "the documentation of every published crate is complete and has no broken links",
    minutes: 2.8,
    level: Level::Default,
    needs: &["cc"],
    run: |run| {
        for package in published(run)? {
            let default = (String::new(), String::new());
            for (options, flags) in BTreeSet::from([default, package.docs_rs()]) {
                let arguments = format!("doc --no-deps --package {} {options}", package.name);
                run.check(&arguments, |run| {
                    let mut cargo = run.cargo(&arguments);
                    cargo.env("RUSTDOCFLAGS", format!("-D warnings {flags}"));
                    if package.name.starts_with("xdma-rtl") {
                        // As on docs.rs, which has no Verilator. A separate directory keeps the build script of other builds current.
                        cargo
                            .env("DOCS_RS", "1")
                            .env("CARGO_TARGET_DIR", run.workspace.target.join("docs-rs"));
                    }
                    run.succeed(cargo)
                });
            }
        }
        Ok(())
    },
};
