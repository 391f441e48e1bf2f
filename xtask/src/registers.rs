//! `cargo xtask registers`: the register map for the design, made of the driver's (`src/regs/msm.rs`).
//!
//! There is one source, in Rust; the SystemVerilog package made of it is committed, and a suite checks that it is current.

use crate::run::Workspace;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

const SOURCE: &str = "src/regs/msm.rs";
const PACKAGE: &str = "hdl/rtl/common/msm_regs_pkg.sv";

/// Writes the package.
pub fn write(workspace: &Workspace) -> Result<()> {
    let (path, text) = current(workspace)?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Fails if the committed package is not what the source makes.
pub fn check(workspace: &Workspace) -> Result<()> {
    let (path, text) = current(workspace)?;
    if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
        bail!("{PACKAGE} is not what {SOURCE} makes; type: cargo xtask registers");
    }
    Ok(())
}

fn current(workspace: &Workspace) -> Result<(PathBuf, String)> {
    let source = fs::read_to_string(workspace.root.join(SOURCE)).context(SOURCE)?;
    Ok((workspace.root.join(PACKAGE), package(&source)?))
}

/// The package of the constants and flags in `source`.
fn package(source: &str) -> Result<String> {
    let mut text = format!(
        "// The register map of `{SOURCE}`, which says more.\n\
         // Made by `cargo xtask registers`; do not edit.\n\
         package msm_regs_pkg;\n"
    );
    let mut flags: Option<String> = None;
    for line in source.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(": u32 {")) {
            writeln!(text, "\n  // Bits of {name}.")?;
            flags = Some(name.to_uppercase());
        } else if line == "}" {
            flags = None;
        } else if let Some(constant) = line.strip_prefix("pub const ") {
            let (name, rest) = constant.split_once(": ").with_context(|| line.to_owned())?;
            let (kind, value) = parts(rest)?;
            writeln!(text, "  {}", parameter(kind, name, value)?)?;
        } else if let (Some(group), Some(flag)) = (&flags, line.strip_prefix("const ")) {
            let (name, value) = parts(flag)?;
            let bit = number(value)?.trailing_zeros();
            writeln!(text, "  localparam int {group}_{name} = {bit};")?;
        }
    }
    text.push_str("endpackage\n");
    Ok(text)
}

/// `A = B;`
fn parts(text: &str) -> Result<(&str, &str)> {
    text.strip_suffix(';').and_then(|text| text.split_once(" = ")).with_context(|| text.to_owned())
}

fn parameter(kind: &str, name: &str, value: &str) -> Result<String> {
    let value = number(value)?;
    Ok(match kind {
        "u32" => format!("localparam logic [31:0] {name} = 32'h{value:x};"),
        "u64" => format!("localparam logic [63:0] {name} = 64'h{value:x};"),
        "usize" => format!("localparam int {name} = {value};"),
        _ => bail!("{name}: no SystemVerilog for {kind}"),
    })
}

/// An integer as the source writes it: `12`, `0x1_0000` or `256 << 20`.
fn number(text: &str) -> Result<u64> {
    if let Some((value, shift)) = text.split_once(" << ") {
        return Ok(number(value)? << number(shift)?);
    }
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    parsed.with_context(|| format!("{text} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_flags_are_translated() {
        let source = "\
            /// Bytes.\npub const SIZE: u64 = 256 << 20;\npub const BEAT: usize = 64;\n\
            pub const A: u32 = 0x0c8;\nbitflags! {\n    pub struct Ctrl: u32 {\n        /// Drops.\n        \
            const ABORT = 1 << 2;\n    }\n}\n";
        let text = package(source).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "package msm_regs_pkg;",
                "localparam logic [63:0] SIZE = 64'h10000000;",
                "localparam int BEAT = 64;",
                "localparam logic [31:0] A = 32'hc8;",
                "",
                "// Bits of Ctrl.",
                "localparam int CTRL_ABORT = 2;",
                "endpackage",
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(package("pub const A: f32 = 1;").is_err());
        assert!(package("pub const A: u32 = B;").is_err());
    }
}
