//! Checks the MSM design in `hdl/`: its register map, and everything in `hdl/check.py`.

use super::{Level, Suite};
use crate::run::Run;
use crate::{packages, registers};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

pub const SUITE: Suite = Suite {
    name: "hdl",
    about: "the MSM design: lint, proofs, cocotb, synthesis; with --full also planted bugs and covers",
    minutes: 3.0,
    level: Level::Default,
    needs: &["c++", "cc", "iverilog", "make", "python3", packages::LIBPYTHON, packages::VENV, "verilator"],
    run: |run| {
        run.check("register map", |run| registers::check(run.workspace));
        check_design(run)
    },
};

/// Runs `hdl/check.py`. It has the output format of `cargo test`, and prints lines `note: ...` for the table.
fn check_design(run: &mut Run) -> Result<()> {
    let hdl = run.workspace.root.join("hdl");
    let python = install_python(run, &hdl.join("requirements.txt"))?;
    let mut check = run.command(python, "");
    check.arg(hdl.join("check.py")).arg("--build").arg(run.workspace.target.join("hdl"));
    check.args(["--jobs", &available_parallelism()?.to_string()]);
    if run.level == Level::Full {
        check.arg("--all");
    }
    let text = run.count_tests(check)?;
    run.notes.extend(text.lines().filter_map(|line| line.strip_prefix("note: ")).map(String::from));
    Ok(())
}

/// Installs the Python packages of `requirements` into the private prefix if necessary, and returns the prefix's `python3`.
fn install_python(run: &mut Run, requirements: &Path) -> Result<PathBuf> {
    let prefix = run.workspace.prefix();
    let python = prefix.join("bin/python3");
    if !prefix.join("bin/pip").is_file() {
        let mut venv = run.command("python3", "-m venv");
        venv.arg(prefix);
        run.succeed(venv)?;
    }
    let mut pip = run.command(&python, "-m pip install --quiet --disable-pip-version-check -r");
    pip.arg(requirements);
    run.succeed(pip)?;
    Ok(python)
}
