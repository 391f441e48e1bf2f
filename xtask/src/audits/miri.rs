//! Miri: finds undefined behaviour in code that makes no system calls.

use crate::run::Run;
use crate::suites::{Level, Suite};
use std::process::Command;

/// The tests that Miri can run; the others map files and use sockets.
const TESTS: &str = "descriptor:: bus::block bus::address memory::iova memory::element channel::queue::jobs";

pub const SUITE: Suite = Suite {
    name: "miri",
    about: "Miri finds no undefined behaviour in code that makes no system calls",
    minutes: 10.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        if !has_nightly(run, "miri") {
            return Ok(());
        }
        // Miri is slow, so each property test runs only a few cases.
        run.environment
            .extend([("MIRIFLAGS", "-Zmiri-disable-isolation".into()), ("PROPTEST_CASES", "8".into())]);
        let miri = |options: &str| format!("miri test --no-fail-fast --lib {options}");
        run.count_tests(nightly_cargo(run, &miri("--package xdma-regs -- --show-output")))?;
        let options = format!("--package xdma -- --show-output {TESTS}");
        run.count_tests(nightly_cargo(run, &miri(&options))).map(drop)
    },
};

/// Returns whether the nightly toolchain has `component`; records a skip if not.
pub fn has_nightly(run: &mut Run<'_>, component: &str) -> bool {
    let list = ["component", "list", "--toolchain", "nightly", "--installed"];
    let list = Command::new("rustup").args(list).output().map(|output| output.stdout).unwrap_or_default();
    let found = String::from_utf8_lossy(&list).lines().any(|line| line.starts_with(component));
    if !found {
        let command = format!("rustup component add --toolchain nightly {component}");
        run.tally.skipped.push(format!("no nightly toolchain with {component}; to install: {command}"));
    }
    found
}

/// Returns a `cargo` command of the nightly toolchain.
pub fn nightly_cargo(run: &Run<'_>, arguments: &str) -> Command {
    run.command("rustup", &format!("run nightly cargo {arguments}"))
}
