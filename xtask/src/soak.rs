//! `cargo xtask soak`: the bench of that name, which strains the driver with faults.

use crate::run::Workspace;
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs it, with the driver's rules watched strictly.
pub fn soak(minutes: f64, seed: u64, json: bool) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(Workspace::find().root).env("XDMA_STRICT", "1");
    command.args(["bench", "--quiet", "--bench", "soak", "--"]);
    command.args(["--minutes", &minutes.to_string(), "--seed", &seed.to_string()]);
    if json {
        command.arg("--json");
    }
    ensure!(command.status().context("cargo does not start")?.success(), "the soak found something");
    Ok(())
}
