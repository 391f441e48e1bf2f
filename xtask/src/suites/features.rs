//! The default build is lean, and each feature compiles without the others.

use super::{Level, Suite};
use crate::metadata::published;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::fs;

/// Packages that the library's default features may pull in. Raise it only for something that is worth a dependency.
const LIMIT: usize = 32;
/// Where each of them is explained.
const LIST: &str = "docs/dependencies.md";

pub const SUITE: Suite = Suite {
    name: "features",
    about: "the default build is lean, each feature compiles alone",
    takes: 1.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        // The suite `rtl` builds the package that needs Verilator, and the features of others that do.
        for package in published(run)?.into_iter().filter(|package| package.name != "xdma-rtl") {
            run.check_cargo(&format!("check --package {} --no-default-features", package.name));
            let features =
                package.features.keys().filter(|name| *name != "default" && !name.starts_with("rtl"));
            for feature in features {
                let options = format!("--no-default-features --features {feature}");
                run.check_cargo(&format!("check --package {} {options}", package.name));
            }
        }
        run.check("packages of the default build", |run| {
            let tree = "tree --package xdma --edges normal,build --prefix none --format {p}";
            let tree = run.stdout(run.cargo(tree))?;
            let used = dependencies(&tree);
            run.notes.push(format!("{} packages by default, at most {LIMIT}", used.len()));
            ensure!((1..=LIMIT).contains(&used.len()), "too many packages, or none");
            explained(&used, &fs::read_to_string(run.workspace.root.join(LIST))?)
        });
        Ok(())
    },
};

/// The dependencies in the output of `cargo tree`. Its first line is the package itself, and this workspace's packages have a path.
fn dependencies(tree: &str) -> BTreeSet<&str> {
    let lines = tree.lines().filter(|line| !line.contains("(/"));
    lines.filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect()
}

/// Each package of the default build is in the list that says why it is trusted, and nothing else is.
fn explained(used: &BTreeSet<&str>, list: &str) -> Result<()> {
    let rows = list.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let listed: BTreeSet<&str> = rows.filter(|name| *name != "package").collect();
    let missing: Vec<_> = used.difference(&listed).collect();
    let unused: Vec<_> = listed.difference(used).collect();
    ensure!(
        missing.is_empty() && unused.is_empty(),
        "{LIST} lacks {missing:?}, and has {unused:?}, which are not used"
    );
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_list_has_the_packages_that_are_used() {
        let tree =
            "xdma v0.1.0 (/there)\nlibc v0.2.1\nserde v1.0.0\nlibc v0.2.1 (*)\nxdma-regs v0.1.0 (/a)\n\n";
        let used = dependencies(tree);
        assert_eq!(used, BTreeSet::from(["libc", "serde"]));
        let list = "words\n\n| package | why |\n|---|---|\n| libc | the kernel |\n";
        assert!(explained(&used, list).unwrap_err().to_string().contains("[\"serde\"]"));
        let list = format!("{list}| serde | text |\n");
        explained(&used, &list).unwrap();
        assert!(explained(&BTreeSet::from(["libc"]), &list).is_err());
    }
}
