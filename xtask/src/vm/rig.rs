//! The rig: the components of a virtual machine, in a private prefix. These are a QEMU with vfio-user, a Debian kernel, and the kernel's VFIO
//! modules, rebuilt with options that Debian disables. `rig.sh` downloads and builds them.

use crate::packages::LIBELF;
use crate::run::Run;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs that `rig.sh` needs.
pub const NEEDS: &[&str] = &["bc", "cc", LIBELF, "make", "python3", "strip", "xz"];
/// Raise this when `rig.sh` builds something else, so that older rigs are replaced.
const VERSION: u32 = 5;
/// Number of lines of the script's output in an error.
const REASON_LINES: usize = 2;

/// A directory with all components.
pub struct Rig {
    dir: PathBuf,
}

impl Rig {
    /// Returns the rig in the prefix, if there is one.
    pub fn find(workspace: &Workspace) -> Option<Self> {
        let dir = rig_dir(workspace);
        dir.is_dir().then_some(Self { dir })
    }

    /// Returns the rig, and builds it first if necessary. A failed download counts as a skip, since it is not an error of this
    /// repository.
    pub fn get_or_build(run: &mut Run) -> Result<Option<Self>> {
        if let Some(rig) = Self::find(run.workspace) {
            return Ok(Some(rig));
        }
        let dir = rig_dir(run.workspace);
        // It gets its final name once it is complete.
        let partial = dir.with_extension("partial");
        if let Err(error) = run_script(run, "fetch", &partial) {
            run.tally.skipped.push(format!("no virtual machines: {error:#}"));
            return Ok(None);
        }
        run_script(run, "build", &partial)?;
        fs::rename(&partial, &dir)?;
        Ok(Some(Self { dir }))
    }

    /// Returns the path of a file that `rig.sh` created.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates the archive `out` for the guest with `image.sh`, which documents the kinds.
    pub fn make_image(&self, kind: &str, out: &Path, files: &[&Path]) -> Result<()> {
        let mut command = Command::new(script("image.sh"));
        command.arg(kind).arg(&self.dir).arg(out).args(files).stdin(Stdio::null());
        let output = command.output().context("image.sh did not start")?;
        let reason = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "image.sh {kind}: {}", reason.trim());
        Ok(())
    }
}

fn rig_dir(workspace: &Workspace) -> PathBuf {
    workspace.prefix().join(format!("vm-{VERSION}"))
}

/// Returns the path of a script in this directory.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vm").join(name)
}

fn run_script(run: &mut Run, step: &str, dir: &Path) -> Result<()> {
    let mut command = run.command(script("rig.sh"), step);
    let (text, status) = run.output(command.arg(dir))?;
    let lines: Vec<&str> = text.lines().collect();
    let reason = lines[lines.len().saturating_sub(REASON_LINES)..].join("; ");
    ensure!(status.success(), "rig.sh {step} ended with {status}: {reason}");
    Ok(())
}
