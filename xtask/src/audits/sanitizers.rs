//! AddressSanitizer and ThreadSanitizer.

use super::miri::{has_nightly, nightly_cargo};
use crate::suites::{Level, Suite};

/// The tests that execute `unsafe` code: the libraries' unit tests, the driver on the emulated card, the emulated card alone, and a
/// malicious card.
const TESTS: &str = "--package xdma --package xdma-emulator --package xdma-emulated-card --package xdma-regs \
     --package vfio-setup --lib --test control --test driver --test emulator --test hostile --test pool --test release_observer";

pub const ADDRESS: Suite = Suite {
    name: "address",
    about: "AddressSanitizer finds no invalid memory access",
    minutes: 10.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        run.environment.extend([
            // Makes a stable compiler accept nightly flags.
            ("RUSTC_BOOTSTRAP", "1".into()),
            // A separate directory neither blocks nor invalidates other builds.
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
    about: "ThreadSanitizer finds no data race in the driver and the emulated card",
    minutes: 15.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        if !has_nightly(run, "rust-src") {
            return Ok(());
        }
        let suppressions = run.workspace.root.join("xtask/src/audits/thread.supp");
        run.environment.extend([
            ("RUSTFLAGS", "-Zsanitizer=thread".into()),
            ("CARGO_TARGET_DIR", run.workspace.prefix().join("thread").into()),
            ("TSAN_OPTIONS", format!("suppressions={}", suppressions.display()).into()),
        ]);
        // The prebuilt standard library is not instrumented.
        let test = format!("test --no-fail-fast -Zbuild-std --target host-tuple {TESTS} -- --show-output");
        run.count_tests(nightly_cargo(run, &test)).map(drop)
    },
};
