//! Valgrind: no use of uninitialised memory, which AddressSanitizer does not see.

use crate::run::{Run, executable};
use crate::suites::{Level, Suite};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Tests that measure time, or that conflict with how valgrind handles `fork`, `exec` and signals.
const SKIPPED: &str = "--skip endings::";

pub const SUITE: Suite = Suite {
    name: "memcheck",
    about: "valgrind finds nothing in the driver's tests",
    takes: 10.0,
    level: Level::Full,
    needs: &["cc", "valgrind"],
    wants: &[],
    run: |run| {
        let build = "test --no-run --message-format=json --package xdma --test driver";
        let messages = run.stdout(run.cargo(build))?;
        let program = executable(&messages, "driver")?;
        run.check("the driver's tests", |run| check(run, &program));
        Ok(())
    },
};

fn check(run: &mut Run<'_>, program: &Path) -> Result<()> {
    let options = "--error-exitcode=99 --fair-sched=yes --child-silent-after-fork=yes";
    let mut valgrind = run.command("valgrind", options);
    // Valgrind runs one thread at a time anyway; with fewer tests at once fewer deadlines are missed.
    valgrind.arg(program).arg("--test-threads=1").args(SKIPPED.split(' '));
    let (text, status) = run.output(&mut valgrind)?;
    let last = |line: &&str| line.contains("ERROR SUMMARY") || line.starts_with("test result");
    let lines: Vec<&str> = text.lines().filter(last).collect();
    let summary = lines.last().context("valgrind printed no summary")?;
    run.note = summary.rsplit("== ").next().unwrap_or_default().into();
    ensure!(status.success(), "{}", lines.join("; "));
    Ok(())
}
