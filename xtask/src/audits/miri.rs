//! Miri: no undefined behaviour in what needs no kernel.

use crate::run::Run;
use crate::suites::{Level, Suite};
use std::process::Command;

/// The rest maps files and talks to sockets, which Miri cannot.
const TESTS: &str = "descriptor:: bus::block bus::address memory::iova memory::element channel::queue::jobs";

pub const SUITE: Suite = Suite {
    name: "miri",
    about: "Miri finds nothing undefined in what needs no kernel",
    takes: 10.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        if !has_nightly(run, "miri") {
            return Ok(());
        }
        // It interprets, so each property gets only a few cases.
        run.environment
            .extend([("MIRIFLAGS", "-Zmiri-disable-isolation".into()), ("PROPTEST_CASES", "8".into())]);
        let miri = |options: &str| format!("miri test --no-fail-fast --lib {options}");
        run.count_tests(nightly_cargo(run, &miri("--package xdma-regs -- --show-output")))?;
        let options = format!("--package xdma -- --show-output {TESTS}");
        run.count_tests(nightly_cargo(run, &miri(&options))).map(drop)
    },
};

/// Whether the nightly toolchain has `component`; otherwise counts a skip.
pub fn has_nightly(run: &mut Run<'_>, component: &str) -> bool {
    let list = ["component", "list", "--toolchain", "nightly", "--installed"];
    let list = Command::new("rustup").args(list).output().map(|output| output.stdout).unwrap_or_default();
    let found = String::from_utf8_lossy(&list).lines().any(|line| line.starts_with(component));
    if !found {
        let command = format!("rustup component add --toolchain nightly {component}");
        run.tally.skipped.push(format!("no nightly toolchain with {component}; type: {command}"));
    }
    found
}

/// A `cargo` command of the nightly toolchain.
pub fn nightly_cargo(run: &Run<'_>, arguments: &str) -> Command {
    run.command("rustup", &format!("run nightly cargo {arguments}"))
}
