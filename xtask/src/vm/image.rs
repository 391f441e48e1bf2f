//! The guest's file systems. `image.sh` makes them.

use super::rig::{Rig, script};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes the archive `out`: `small` or `debian`, of programs that need not be built again for the guest, or `job`, of the lines that a
/// boot executes and the files that an earlier boot left. The kernel unpacks several archives one after the other.
pub fn make(kind: &str, rig: &Rig, out: &Path, files: &[&Path]) -> Result<()> {
    let mut command = Command::new(script("image.sh"));
    command.arg(kind).arg(&rig.folder).arg(out).args(files).stdin(Stdio::null());
    let output = command.output().context("image.sh did not start")?;
    if !output.status.success() {
        bail!("image.sh {kind}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
