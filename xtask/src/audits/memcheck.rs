//! Valgrind: no use of uninitialised memory, which AddressSanitizer does not see.

use crate::run::executable;
use crate::suites::{Level, Suite};
use anyhow::Context;

pub const SUITE: Suite = Suite {
    name: "memcheck",
    about: "valgrind finds nothing in the driver's tests",
    takes: 10.0,
    level: Level::Quick,
    needs: &["cc", "valgrind"],
    run: |run| {
        let messages = run.build("test --no-run --package xdma --test driver")?;
        let program = executable(&messages, "driver")?;
        let options = "--error-exitcode=99 --fair-sched=yes --child-silent-after-fork=yes";
        let mut valgrind = run.command("valgrind", options);
        // Valgrind runs one thread at a time anyway; with fewer tests at once fewer deadlines are missed.
        valgrind.arg(program).arg("--test-threads=1");
        // They conflict with how valgrind handles `fork`, `exec` and signals.
        valgrind.args(["--skip", "endings::"]);
        let text = run.count_tests(valgrind)?;
        let summary = text.lines().rfind(|line| line.contains("ERROR SUMMARY"));
        run.notes.push(summary.context("valgrind printed no summary")?.into());
        Ok(())
    },
};
