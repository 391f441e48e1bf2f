//! The parts of a virtual machine, in a private prefix: a QEMU that knows vfio-user, a Debian kernel, and that kernel's VFIO modules
//! built again with what Debian leaves out. `rig.sh` makes them.

use crate::packages::LIBELF;
use crate::run::Run;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs that making the parts needs.
pub const NEEDS: &[&str] = &["bc", "cc", LIBELF, "make", "python3", "strip", "xz"];
/// Raise it when `rig.sh` changes: an older rig is then replaced.
const VERSION: u32 = 5;
/// Lines of the script's output in an error.
const REASON: usize = 2;

/// Where the parts are.
pub struct Rig {
    folder: PathBuf,
}

impl Rig {
    /// The rig below the prefix, if it was made.
    pub fn find(workspace: &Workspace) -> Option<Self> {
        let folder = folder(workspace);
        folder.is_dir().then_some(Self { folder })
    }

    /// The rig, made first if it is not there. Where the parts cannot be downloaded, that is a skip: nothing is wrong with this
    /// repository.
    pub fn of(run: &mut Run) -> Result<Option<Self>> {
        if let Some(rig) = Self::find(run.workspace) {
            return Ok(Some(rig));
        }
        let folder = folder(run.workspace);
        // Until it is complete it has another name.
        let partial = folder.with_extension("partial");
        if let Err(error) = make(run, "fetch", &partial) {
            run.tally.skipped.push(format!("no virtual machine here: {error:#}"));
            return Ok(None);
        }
        make(run, "build", &partial)?;
        fs::rename(&partial, &folder)?;
        Ok(Some(Self { folder }))
    }

    /// One of the files that `rig.sh` made.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the archive `out` for the guest with `image.sh`, which says what the kinds are. The programs are those of this machine.
    pub fn make_image(&self, kind: &str, out: &Path, files: &[&Path]) -> Result<()> {
        let mut command = Command::new(script("image.sh"));
        command.arg(kind).arg(&self.folder).arg(out).args(files).stdin(Stdio::null());
        let output = command.output().context("image.sh did not start")?;
        let reason = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "image.sh {kind}: {}", reason.trim());
        Ok(())
    }
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.prefix().join(format!("vm-{VERSION}"))
}

/// A script of this folder.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vm").join(name)
}

fn make(run: &mut Run, step: &str, folder: &Path) -> Result<()> {
    let mut command = run.command(script("rig.sh"), step);
    let (text, status) = run.output(command.arg(folder))?;
    let lines: Vec<&str> = text.lines().collect();
    let reason = lines[lines.len().saturating_sub(REASON)..].join("; ");
    ensure!(status.success(), "rig.sh {step} ended with {status}: {reason}");
    Ok(())
}
