//! AddressSanitizer and ThreadSanitizer.

use super::miri::{has_nightly, nightly_cargo};
use crate::suites::{Level, Suite};

/// The tests that reach `unsafe` code: the libraries' own, the driver on the emulated card, the emulated card alone, and a malicious
/// card.
const TESTS: &str = "--package xdma --package xdma-emulator --package xdma-emulated-card --package xdma-regs \
     --package vfio-setup --lib --test control --test driver --test emulator --test hostile --test pool --test witness";

pub const ADDRESS: Suite = Suite {
    name: "address",
    about: "AddressSanitizer finds no access outside of live memory",
    takes: 10.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        run.environment.extend([
            // A stable compiler accepts the flag of a nightly one with this.
            ("RUSTC_BOOTSTRAP", "1".into()),
            // Other builds neither wait for this one nor are invalidated by it.
            ("CARGO_TARGET_DIR", run.workspace.prefix().join("address").into()),
            ("RUSTFLAGS", "-Zsanitizer=address".into()),
            // Quarantined memory is leaked on purpose.
            ("ASAN_OPTIONS", "detect_leaks=0".into()),
        ]);
        run.cargo_test(&format!("--target host-tuple {TESTS}"))
    },
};

pub const THREAD: Suite = Suite {
    name: "thread",
    about: "ThreadSanitizer finds no race in the driver and the emulated card",
    takes: 15.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        if !has_nightly(run, "rust-src") {
            return Ok(());
        }
        let known = run.workspace.root.join("xtask/src/audits/thread.supp");
        run.environment.extend([
            ("RUSTFLAGS", "-Zsanitizer=thread".into()),
            ("CARGO_TARGET_DIR", run.workspace.prefix().join("thread").into()),
            ("TSAN_OPTIONS", format!("suppressions={}", known.display()).into()),
        ]);
        // The standard library that comes with the compiler is not instrumented.
        let test = format!("test --no-fail-fast -Zbuild-std --target host-tuple {TESTS} -- --show-output");
        run.count_tests(nightly_cargo(run, &test)).map(drop)
    },
};
