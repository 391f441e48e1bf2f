//! The MSM design in `hdl/`: its register map, the checks of `hdl/check.py`, and the tests of its simulation.

use super::{Level, Suite};
use crate::run::Run;
use crate::{packages, python, registers};
use anyhow::Result;
use std::thread::available_parallelism;

pub const SUITE: Suite = Suite {
    name: "hdl",
    about: "the MSM design: lint, proofs, planted bugs, simulation, synthesis; with --full all of them",
    takes: 10.0,
    level: Level::Default,
    needs: &["c++", "cc", "iverilog", "make", "python3", packages::VENV, "verilator", "yosys"],
    wants: &[],
    run: |run| {
        run.check("register map", |run| registers::check(run.workspace));
        check_design(run)?;
        run.cargo_test("--package xdma-rtl --tests")
    },
};

/// Runs `hdl/check.py`, which prints what `cargo test` prints, and lines `note: ...` for the table.
fn check_design(run: &mut Run) -> Result<()> {
    let hdl = run.workspace.root.join("hdl");
    let python = python::install(run, &hdl.join("requirements.txt"))?;
    let mut check = run.command(python, "");
    check.arg(hdl.join("check.py")).arg("--build").arg(run.workspace.target.join("hdl"));
    check.args(["--jobs", &available_parallelism()?.to_string()]);
    if run.level == Level::Full {
        check.arg("--all");
    }
    let text = run.count_tests(check)?;
    run.note = notes(&text);
    Ok(())
}

fn notes(text: &str) -> String {
    text.lines().filter_map(|line| line.strip_prefix("note: ")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn notes_are_collected() {
        assert_eq!(notes("test a ... ok\nnote: 5 DSPs\nnote: 2 RAMs\nnot this\n"), "5 DSPs, 2 RAMs");
    }
}
