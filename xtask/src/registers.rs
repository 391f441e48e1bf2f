//! `cargo xtask registers`: writes the design's SystemVerilog register packages, which `crates/regs` generates.
//!
//! The packages are committed, and the suite `hdl` checks that they are current.

use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use xdma_regs::systemverilog::{Package, packages};

fn path(workspace: &Workspace, package: &Package) -> PathBuf {
    workspace.root.join("hdl/rtl/common").join(package.name).with_extension("sv")
}

/// Writes the SystemVerilog packages.
pub fn write(workspace: &Workspace) -> Result<()> {
    packages()
        .iter()
        .try_for_each(|package| fs::write(path(workspace, package), &package.text).context(package.name))
}

/// Fails if a committed package is out of date.
pub fn check(workspace: &Workspace) -> Result<()> {
    for package in packages() {
        let committed = fs::read_to_string(path(workspace, &package)).context(package.name)?;
        let is_current = committed == package.text;
        ensure!(
            is_current,
            "{} does not match {}; run `cargo xtask registers`",
            package.name,
            package.source
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_packages_are_current() {
        super::check(&crate::workspace::Workspace::find()).unwrap();
    }
}
