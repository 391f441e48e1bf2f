//! Python packages in the private prefix, through the machine's own pip configuration.

use crate::run::Run;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Installs what the file `requirements` names into the prefix, and returns its `python3`.
pub fn install(run: &mut Run, requirements: &Path) -> Result<PathBuf> {
    let prefix = run.workspace.prefix();
    let python = prefix.join("bin/python3");
    let wanted = fs::read_to_string(requirements).with_context(|| requirements.display().to_string())?;
    let stamp = prefix.join("python-packages");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let mut venv = run.command("python3", "-m venv");
    venv.arg(&prefix);
    run.succeed(venv)?;
    let mut pip = run.command(&python, "-m pip install --quiet --disable-pip-version-check -r");
    pip.arg(requirements);
    run.succeed(pip)?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(python)
}
