//! The default build is lean, and each feature compiles without the others.

use super::Suite;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// Packages that the library's default features may pull in. Raise it only for something that is worth a dependency.
const PACKAGES: usize = 32;

pub const SUITE: Suite = Suite {
    name: "features",
    about: "the default build is lean, each feature compiles alone",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        run.check("default features", |run| run.succeed(run.cargo("check --lib")));
        for feature in ["emulator", "arkworks", "halo2curves", "setup"] {
            run.check(feature, |run| run.succeed(run.cargo(&format!("check --lib --features {feature}"))));
        }
        run.check("vfio-setup", |run| run.succeed(run.cargo("check --bin vfio-setup --features setup")));
        run.check("cli", |run| run.succeed(run.cargo("check --lib --bins --features cli")));
        let tree = run.stdout(run.cargo("tree --edges normal,build --prefix none --format {p}"));
        run.check("packages", |run| {
            let count = packages(&tree?);
            run.note = format!("{count} packages by default, at most {PACKAGES}");
            bounded(count)
        });
        Ok(())
    },
};

fn bounded(count: usize) -> Result<()> {
    ensure!(count > 0, "`cargo tree` named no package");
    ensure!(count <= PACKAGES, "the default build takes {count} packages, more than {PACKAGES}");
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
