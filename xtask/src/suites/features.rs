//! The default build is lean, and each feature compiles without the others.

use super::Suite;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::fs;

/// Packages that the library's default features may pull in. Raise it only for something that is worth a dependency.
const PACKAGES: usize = 32;

pub const SUITE: Suite = Suite {
    name: "features",
    about: "the default build is lean, each feature compiles alone",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        run.check("default features", |run| run.succeed(run.cargo("check --lib")));
        for feature in ["emulator", "arkworks", "halo2curves", "setup", "tokio"] {
            run.check(feature, |run| run.succeed(run.cargo(&format!("check --lib --features {feature}"))));
        }
        run.check("vfio-setup", |run| run.succeed(run.cargo("check --bin vfio-setup --features setup")));
        run.check("cli", |run| run.succeed(run.cargo("check --lib --bins --features cli")));
        let tree = run.stdout(run.cargo("tree --edges normal,build --prefix none --format {p}"));
        run.check("packages", |run| {
            let tree = tree?;
            let count = packages(&tree);
            run.note = format!("{count} packages by default, at most {PACKAGES}");
            bounded(count)?;
            explained(&tree, &fs::read_to_string(run.workspace.root.join("docs/dependencies.md"))?)
        });
        Ok(())
    },
};

fn bounded(count: usize) -> Result<()> {
    ensure!(count > 0, "`cargo tree` named no package");
    ensure!(count <= PACKAGES, "the default build takes {count} packages, more than {PACKAGES}");
    Ok(())
}

/// Each package of the default build is in the list that says why it is trusted, and nothing else is.
fn explained(tree: &str, list: &str) -> Result<()> {
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let used: BTreeSet<&str> = names.filter(|name| !name.is_empty() && *name != "xdma").collect();
    let rows = list.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let listed: BTreeSet<&str> = rows.filter(|name| *name != "package").collect();
    let missing: Vec<_> = used.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&used).collect();
    ensure!(
        missing.is_empty() && gone.is_empty(),
        "docs/dependencies.md lacks {missing:?}, and has {gone:?}, which are not used"
    );
    Ok(())
}

/// Packages in the output of `cargo tree`, the library itself left out. A package seen before is marked `(*)`.
fn packages(tree: &str) -> usize {
    let name = |line: &str| line.trim_end_matches(" (*)").trim().to_string();
    let names: BTreeSet<String> = tree.lines().map(name).filter(|name| !name.is_empty()).collect();
    names.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_listed_and_the_other_way_round() {
        let tree = "xdma v0.1.0 (/there)\nlibc v0.2.1\nserde v1.0.0\nlibc v0.2.1 (*)\n";
        let list = "words\n\n| package | why |\n|---|---|\n| libc | the kernel |\n";
        assert!(explained(tree, list).unwrap_err().to_string().contains("[\"serde\"]"));
        let list = format!("{list}| serde | text |\n");
        explained(tree, &list).unwrap();
        assert!(explained("libc v1\n", &list).is_err());
    }

    #[test]
    fn a_package_counts_once() {
        assert_eq!(packages("xdma v0.1.0 (/there)\nlibc v0.2.1\nserde v1.0.0\nlibc v0.2.1 (*)\n\n"), 2);
        assert_eq!(packages(""), 0);
    }

    #[test]
    fn the_bound_holds_on_both_sides() {
        assert!(bounded(0).is_err());
        assert!(bounded(PACKAGES).is_ok());
        assert!(bounded(PACKAGES + 1).is_err());
    }
}
