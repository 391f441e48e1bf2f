//! `cargo xtask soak`: runs the bench `soak`, a stress test with injected faults.

use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::process::Command;

/// Runs the bench with the emulated card's rules enforced. Returns whether it succeeded.
pub fn soak(minutes: f64, seed: u64, json: bool) -> Result<bool> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(Workspace::find().root).env("XDMA_STRICT", "1");
    let arguments = format!("bench --quiet --package xdma --bench soak -- --minutes {minutes} --seed {seed}");
    command.args(arguments.split(' ')).args(json.then_some("--json"));
    Ok(command.status().context("cargo did not start")?.success())
}
