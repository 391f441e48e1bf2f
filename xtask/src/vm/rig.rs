//! The parts of a virtual machine, in a private prefix: a QEMU that knows vfio-user, a Debian kernel, and that kernel's VFIO modules
//! built again with what Debian leaves out. `rig.sh` makes them.

use crate::packages;
use crate::run::Run;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// Programs that making the parts needs.
pub const NEEDS: &[&str] = &["bc", "cc", "make", "strip", "xz"];
/// Raise it when `rig.sh` changes: an older rig is then replaced.
const VERSION: u32 = 5;
/// Lines of the script's output in an error.
const REASON: usize = 2;

/// The parts cannot be downloaded on this machine, or not now. Nothing is wrong with this repository.
#[derive(Debug)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no virtual machine here")
    }
}

/// Where the parts are.
pub struct Rig {
    pub folder: PathBuf,
}

impl Rig {
    /// The rig below the prefix, made first if it is not there. Until it is complete it has another name.
    pub fn install(run: &mut Run) -> Result<Self> {
        let prefix = run.workspace.prefix();
        let folder = prefix.join(format!("vm-{VERSION}"));
        if !folder.is_dir() {
            if let Some(missing) = packages::explain(NEEDS) {
                bail!(missing);
            }
            remove_others(&prefix)?;
            let partial = folder.with_extension("partial");
            make(run, "fetch", &partial).context(Unavailable)?;
            make(run, "build", &partial)?;
            fs::rename(&partial, &folder)?;
        }
        Ok(Self { folder })
    }

    /// The rig of a suite; the suite is skipped where there is none.
    pub fn of(run: &mut Run) -> Result<Option<Self>> {
        match Self::install(run) {
            Err(error) if error.is::<Unavailable>() => {
                run.tally.skipped.push(format!("{error:#}"));
                Ok(None)
            }
            rig => rig.map(Some),
        }
    }

    pub fn qemu(&self) -> PathBuf {
        self.folder.join("qemu-system-x86_64")
    }

    /// The udevadm of the guest's Debian, to be run on this machine.
    pub fn udevadm(&self) -> PathBuf {
        self.folder.join("udevadm")
    }

    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }
}

/// A script of this folder.
pub fn script(name: &str) -> PathBuf {
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

/// Removes rigs of other versions, and incomplete ones.
fn remove_others(prefix: &Path) -> Result<()> {
    let entries = fs::read_dir(prefix).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("vm-")) {
        fs::remove_dir_all(entry.path())?;
    }
    Ok(())
}
