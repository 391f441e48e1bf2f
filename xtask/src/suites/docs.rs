//! The documentation builds as docs.rs builds it and with default features, and no link in it is broken.

use super::{Level, Suite};
use crate::metadata::published;
use std::collections::BTreeSet;

pub const SUITE: Suite = Suite {
    name: "docs",
    about: "the documentation of every published crate has no broken link and no gap",
    takes: 1.5,
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
                    run.succeed(cargo)
                });
            }
        }
        Ok(())
    },
};
