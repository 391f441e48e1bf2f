//! Python packages in the private prefix, through the machine's own pip configuration.

use crate::packages;
use crate::run::Run;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes sure that the prefix has what the file `requirements` names, so that its programs are found.
pub fn install(run: &mut Run, requirements: &Path) -> Result<()> {
    let prefix = run.workspace.prefix();
    let wanted = fs::read_to_string(requirements).with_context(|| requirements.display().to_string())?;
    let done = prefix.join("python-packages");
    if fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    packages::require_venv()?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&prefix);
    run.succeed(venv)?;
    let mut pip = Command::new(prefix.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(requirements);
    run.succeed(pip)?;
    fs::write(&done, wanted).with_context(|| done.display().to_string())
}
