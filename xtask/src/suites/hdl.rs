//! Suites in Python: the checks of the MSM design in `hdl/`, and the tests of the Python module.

use super::{Level, Suite};
use crate::run::Run;
use crate::{packages, registers};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

pub const SUITE: Suite = Suite {
    name: "hdl",
    about: "the MSM design and the DMA engine: lint, proofs, cocotb, synthesis; with --full also injected bugs and cover properties",
    minutes: 5.8,
    level: Level::Default,
    needs: &["c++", "cc", "iverilog", "make", "python3", packages::LIBPYTHON, packages::VENV, "verilator"],
    run: |run| {
        run.check("register map", |run| registers::check(run.workspace));
        check_design(run)
    },
};

pub const PYTHON: Suite = Suite {
    name: "python",
    about: "the Python module, installed by pip: tests with pytest, types, 10^5 transfers without a leak",
    minutes: 3.0,
    level: Level::Default,
    needs: &["cc", "python3", packages::VENV],
    run: |run| {
        let package = run.workspace.root.join("crates/python");
        let python = install_python(run, &package.join("requirements.txt"))?;
        // By default, pip builds in release mode, with a copy of maturin.
        let mut install = run.command(&python, "-m pip install --quiet --disable-pip-version-check");
        install.args(["--no-deps", "--no-build-isolation", "--force-reinstall"]).arg(&package);
        install.env("MATURIN_PEP517_ARGS", "--profile dev");
        run.succeed(install)?;
        let mut tests = run.command(&python, "-X faulthandler -m pytest");
        tests.arg(package.join("tests"));
        run.count_tests(tests).map(drop)
    },
};

/// Runs `hdl/check.py`. It has the output format of `cargo test`, and prints lines `note: ...` for the table.
fn check_design(run: &mut Run) -> Result<()> {
    let hdl = run.workspace.root.join("hdl");
    let python = install_python(run, &hdl.join("requirements.txt"))?;
    let mut check = run.command(python, "");
    check.arg(hdl.join("check.py")).arg("--build").arg(run.workspace.target.join("hdl"));
    check.args(["--jobs", &available_parallelism()?.to_string()]);
    check.args((run.level == Level::Full).then_some("--all"));
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
