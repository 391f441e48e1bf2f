//! Valgrind: no use of memory that was never written, which AddressSanitizer does not see.

use crate::run::{Run, executable};
use crate::suites::Suite;
use anyhow::{Context, Result};
use std::process::Command;

/// Tests of the driver that measure time, or that valgrind's own `fork`, `exec` and signals get in the way of.
const SKIPPED: [&str; 1] = ["endings::"];

pub const SUITE: Suite = Suite {
    name: "memcheck",
    about: "valgrind sees nothing wrong in the driver's tests",
    needs: &["cc", "valgrind"],
    wants: &[],
    run: |run| {
        let messages = run.stdout(run.cargo("test --no-run --message-format=json --test driver"))?;
        let program = executable(&messages, "driver")?;
        run.check("the driver's tests", |run| check(run, &program));
        Ok(())
    },
};

fn check(run: &mut Run<'_>, program: &std::path::Path) -> Result<()> {
    let mut valgrind = Command::new("valgrind");
    // One thread at a time is what valgrind runs anyway; with fewer tests at once fewer deadlines are missed.
    valgrind.args(["--error-exitcode=99", "--fair-sched=yes", "--child-silent-after-fork=yes"]).arg(program);
    valgrind.arg("--test-threads=1");
    for name in SKIPPED {
        valgrind.args(["--skip", name]);
    }
    let (text, status) = run.noise(&mut valgrind)?;
    let last = |line: &&str| line.contains("ERROR SUMMARY") || line.starts_with("test result");
    let lines: Vec<&str> = text.lines().filter(last).collect();
    run.note = lines.last().context("valgrind said nothing")?.rsplit("== ").next().unwrap_or_default().into();
    if !status.success() {
        anyhow::bail!("{}", lines.join("; "));
    }
    Ok(())
}
