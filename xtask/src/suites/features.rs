//! Limits the dependencies of the default build, and compiles each feature without the others.

use super::{Level, Suite};
use crate::metadata::published;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::fs;

/// Maximum number of dependencies with the library's default features. Raise it only for something that is worth a dependency.
const LIMIT: usize = 32;
/// The list that explains each of them.
const LIST: &str = "docs/dependencies.md";

pub const SUITE: Suite = Suite {
    name: "features",
    about: "few dependencies by default; with --full, each feature of each package compiles alone",
    minutes: 0.3,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        // The suite `rtl` builds the packages and the features that need Verilator.
        let is_full = run.level == Level::Full;
        let is_checked = |name: &str| name == "xdma" || is_full && !name.starts_with("xdma-rtl");
        let is_own = |name: &&String| is_full && *name != "default" && !name.starts_with("rtl");
        for package in published(run)?.into_iter().filter(|package| is_checked(&package.name)) {
            for feature in std::iter::once(&String::new()).chain(package.features.keys().filter(is_own)) {
                let only = format!("--package {} --no-default-features --features={feature}", package.name);
                run.check_cargo(&format!("check {only}"));
            }
        }
        run.check("packages of the default build", |run| {
            let tree = "tree --package xdma --edges normal,build --prefix none --format {p}";
            let tree = run.stdout(run.cargo(tree))?;
            let used = dependencies(&tree);
            run.notes.push(format!("{} packages by default, at most {LIMIT}", used.len()));
            ensure!((1..=LIMIT).contains(&used.len()), "{} packages, expected 1 to {LIMIT}", used.len());
            check_list(&used, &fs::read_to_string(run.workspace.root.join(LIST))?)
        });
        Ok(())
    },
};

/// Returns the dependencies in the output of `cargo tree`, without this workspace's packages, which are printed with their path.
fn dependencies(tree: &str) -> BTreeSet<&str> {
    let lines = tree.lines().filter(|line| !line.contains("(/"));
    lines.filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect()
}

/// Checks that the list contains exactly the packages of the default build.
fn check_list(used: &BTreeSet<&str>, list: &str) -> Result<()> {
    let rows = list.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let listed: BTreeSet<&str> = rows.filter(|name| *name != "package").collect();
    let missing: Vec<_> = used.difference(&listed).collect();
    let unused: Vec<_> = listed.difference(used).collect();
    ensure!(
        missing.is_empty() && unused.is_empty(),
        "{LIST} lacks {missing:?}, and lists {unused:?}, which are not in the build"
    );
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_list_must_match_the_build() {
        let tree =
            "xdma v0.1.0 (/there)\nlibc v0.2.1\nserde v1.0.0\nlibc v0.2.1 (*)\nxdma-regs v0.1.0 (/a)\n\n";
        let used = dependencies(tree);
        assert_eq!(used, BTreeSet::from(["libc", "serde"]));
        let list = "words\n\n| package | why |\n|---|---|\n| libc | the kernel |\n";
        assert!(check_list(&used, list).unwrap_err().to_string().contains("[\"serde\"]"));
        let list = format!("{list}| serde | text |\n");
        check_list(&used, &list).unwrap();
        assert!(check_list(&BTreeSet::from(["libc"]), &list).is_err());
    }
}
