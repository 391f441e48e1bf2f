//! What only a nightly toolchain with more than its default components can do.

use super::TESTS;
use crate::run::{Run, host};
use crate::suites::Suite;
use anyhow::Result;
use std::process::{Command, Stdio};

pub const MIRI: Suite = Suite {
    name: "miri",
    about: "Miri sees nothing undefined in what needs no kernel",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        if !has("miri") {
            return skip(run, "miri");
        }
        // The rest maps files and talks to sockets, which Miri cannot.
        let tests = "descriptor:: regs:: bus::block bus::address memory::iova memory::element engine::jobs";
        // It interprets: a few cases of each property are as many as there is time for.
        run.environment
            .extend([("MIRIFLAGS", "-Zmiri-disable-isolation".into()), ("PROPTEST_CASES", "8".into())]);
        run.count_tests(
            run.nightly_cargo(&format!("miri test --no-fail-fast --lib -- --show-output {tests}")),
        )
    },
};

pub const THREAD: Suite = Suite {
    name: "thread",
    about: "ThreadSanitizer sees no race in the driver and the emulated card",
    needs: &["cc"],
    wants: &[],
    run: |run| {
        if !has("rust-src") {
            return skip(run, "rust-src");
        }
        let target = host(run)?;
        let directory = run.workspace.prefix().join("thread");
        let known = run.workspace.root.join("xtask/src/audits/thread.supp");
        run.environment.extend([
            ("RUSTFLAGS", "-Zsanitizer=thread".into()),
            ("CARGO_TARGET_DIR", directory),
            ("TSAN_OPTIONS", format!("suppressions={}", known.display()).into()),
        ]);
        // The library that comes with the compiler has no such checks.
        let test = format!("test --no-fail-fast -Zbuild-std --target {target} {TESTS} -- --show-output");
        run.count_tests(run.nightly_cargo(&test))
    },
};

fn has(component: &str) -> bool {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "list", "--toolchain", "nightly", "--installed"]).stderr(Stdio::null());
    let listed = rustup.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    listed.is_ok_and(|text| text.lines().any(|line| line.starts_with(component)))
}

fn skip(run: &mut Run<'_>, component: &str) -> Result<()> {
    let reason = format!(
        "no nightly toolchain with {component}; type: rustup component add --toolchain nightly {component}"
    );
    run.tally.skipped.push(reason);
    Ok(())
}
