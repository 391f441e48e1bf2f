//! Valgrind: finds uses of uninitialised memory, which AddressSanitizer does not detect.

use crate::run::executable;
use crate::suites::{Level, Suite};
use anyhow::Context;

pub const SUITE: Suite = Suite {
    name: "memcheck",
    about: "valgrind reports no errors in the driver's tests",
    minutes: 10.0,
    level: Level::Quick,
    needs: &["cc", "valgrind"],
    run: |run| {
        let messages = run.build("test --no-run --package xdma --test driver")?;
        let program = executable(&messages, "driver")?;
        let options = "--error-exitcode=99 --fair-sched=yes --child-silent-after-fork=yes";
        let mut valgrind = run.command("valgrind", options);
        // Valgrind runs one thread at a time anyway; with a single test at a time, fewer tests exceed their deadlines.
        valgrind.arg(program).arg("--test-threads=1");
        // These conflict with valgrind's handling of `fork`, `exec` and signals.
        valgrind.args(["--skip", "endings::"]);
        let text = run.count_tests(valgrind)?;
        let summary = text.lines().rfind(|line| line.contains("ERROR SUMMARY"));
        run.notes.push(summary.context("valgrind printed no summary")?.into());
        Ok(())
    },
};
