//! `cargo xtask registers`: generates the design's SystemVerilog register package from `crates/regs`.
//!
//! The generated package is committed, and the suite `hdl` checks that it is current.

use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write;
use std::fs;
use xdma_regs::map::{Field, MSM_FLAGS};
use xdma_regs::msm::{CONSTANTS, Constant};

const SOURCE: &str = "crates/regs/src/msm.rs";
const PACKAGE: &str = "hdl/rtl/common/msm_regs_pkg.sv";

/// Writes the package.
pub fn write(workspace: &Workspace) -> Result<()> {
    fs::write(workspace.root.join(PACKAGE), package(CONSTANTS, MSM_FLAGS)?).context(PACKAGE)
}

/// Fails if the committed package is not what the map generates.
pub fn check(workspace: &Workspace) -> Result<()> {
    let committed = fs::read_to_string(workspace.root.join(PACKAGE)).context(PACKAGE)?;
    let is_current = committed == package(CONSTANTS, MSM_FLAGS)?;
    ensure!(is_current, "{PACKAGE} is not what {SOURCE} generates; type: cargo xtask registers");
    Ok(())
}

fn package(constants: &[Constant], flags: &[(&str, &[Field])]) -> Result<String> {
    let mut text = format!(
        "`default_nettype none\n\
         // The register map of `{SOURCE}`, which says more.\n\
         // Made by `cargo xtask registers`; do not edit.\n\
         package msm_regs_pkg;\n"
    );
    for constant in constants {
        writeln!(text, "  {}", parameter(constant)?)?;
    }
    for (group, fields) in flags {
        writeln!(text, "\n  // Bits of {group}.")?;
        for Field { name, mask, .. } in *fields {
            let group = group.to_uppercase();
            writeln!(text, "  localparam int {group}_{name} = {};", mask.trailing_zeros())?;
        }
    }
    text.push_str("endpackage\n`default_nettype wire\n");
    Ok(text)
}

fn parameter(Constant { name, kind, value }: &Constant) -> Result<String> {
    Ok(match *kind {
        "u32" => format!("localparam logic [31:0] {name} = 32'h{value:x};"),
        "u64" => format!("localparam logic [63:0] {name} = 64'h{value:x};"),
        "usize" => format!("localparam int {name} = {value};"),
        _ => bail!("{name}: no SystemVerilog for {kind}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_flags_are_translated() {
        let constant = |name, kind, value| Constant { name, kind, value };
        let all = [constant("A", "u32", 16), constant("B", "usize", 64)];
        let fields = [Field { name: "BIT", mask: 1 << 3, flag: true, bytes: None }];
        let text = package(&all, &[("irq", &fields)]).unwrap();
        for line in
            ["localparam logic [31:0] A = 32'h10;", "localparam int B = 64;", "localparam int IRQ_BIT = 3;"]
        {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(parameter(&constant("C", "i8", 1)).is_err());
    }

    #[test]
    fn the_committed_package_is_current() {
        check(&Workspace::find()).unwrap();
    }
}
