//! The documentation builds as docs.rs builds it and with default features, and no link in it is broken.

use super::{Level, Suite};
use crate::metadata::published;
use crate::run::Run;

pub const SUITE: Suite = Suite {
    name: "docs",
    about: "the documentation of every published crate has no broken link and no gap",
    takes: 1.5,
    level: Level::Default,
    needs: &["cc"],
    wants: &[],
    run: |run| {
        for package in published(run)? {
            document(run, &package.name, "", "");
            if !package.docs_rs.cargo.is_empty() {
                document(run, &package.name, &package.docs_rs.cargo, &package.docs_rs.rustdoc);
            }
        }
        Ok(())
    },
};

fn document(run: &mut Run, package: &str, options: &str, flags: &str) {
    let arguments = format!("doc --no-deps --package {package} {options}");
    run.check(&format!("cargo {arguments}"), |run| {
        let mut cargo = run.cargo(&arguments);
        cargo.env("RUSTDOCFLAGS", format!("-D warnings {flags}"));
        run.succeed(cargo)
    });
}
