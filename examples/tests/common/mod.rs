//! Runs examples as programs.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// Returns the path of an example. Cargo places examples in `examples`, next to the directory `deps` of this test program.
fn program(example: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile =
        test.ancestors().nth(2).context("the test program is not in a target directory of cargo")?;
    let path = profile.join("examples").join(example);
    ensure!(path.is_file(), "{example} is not built; run: cargo build --package xdma-examples --examples");
    Ok(path)
}

/// Runs an example, and returns its output.
pub fn run(example: &str, options: &str) -> Result<Vec<u8>> {
    let output = Command::new(program(example)?).args(options.split_whitespace()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{example} {options} ended with {}: {errors}", output.status);
    Ok(output.stdout)
}

/// Runs an example with `--json`, and returns its output, which must be a single JSON value.
pub fn report(example: &str, options: &str) -> Result<Value> {
    let output = run(example, &format!("--json {options}"))?;
    serde_json::from_slice(&output).context("standard output is not one JSON value")
}
