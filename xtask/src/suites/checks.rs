//! Suites that only run `cargo` commands.

use super::{Level, PACKAGES, SIMULATED, Suite};
use crate::packages::LIBCLANG;
use crate::run::Run;
use anyhow::Result;
use std::fs;

pub const FMT: Suite = Suite {
    name: "fmt",
    about: "all code is formatted with rustfmt",
    minutes: 0.1,
    level: Level::Quick,
    needs: &["cargo-fmt"],
    run: |run| {
        run.check_cargo("fmt --all --check");
        Ok(())
    },
};

/// A separate suite, so that the table shows the compile time of the suites `tests` and `vm`.
pub const BUILD: Suite = Suite {
    name: "build",
    about: "libraries, programs, examples and tests compile",
    minutes: 6.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        run.check_cargo(&format!("test --no-run {PACKAGES}"));
        // Excluded from the default test targets, since it runs in virtual machines.
        run.check_cargo(&format!("test --no-run {PACKAGES} --test vm"));
        Ok(())
    },
};

pub const CLIPPY: Suite = Suite {
    name: "clippy",
    about: "no warnings in any target of the workspace",
    minutes: 4.0,
    level: Level::Quick,
    needs: &["cargo-clippy", "cc"],
    run: |run| {
        run.check_cargo(&format!("clippy {SIMULATED} --all-targets -- -D warnings"));
        run.check_cargo(&format!("clippy {SIMULATED} --test vm -- -D warnings"));
        Ok(())
    },
};

pub const PUBLISH: Suite = Suite {
    name: "publish",
    about: "the crates can be published; with --full they also build from their packages",
    minutes: 0.5,
    level: Level::Default,
    needs: &["c++", "cc", "verilator"],
    run: |run| {
        let verify = if run.level == Level::Full { "" } else { "--no-verify" };
        run.check_cargo(&format!("publish --workspace --dry-run --allow-dirty {verify}"));
        Ok(())
    },
};

pub const RTL: Suite = Suite {
    name: "rtl",
    about: "the simulated design, and the driver, the examples and the feed study on it; with --full, also the build with traces, and the tests of the driver and the emulated card on the DMA engine",
    minutes: 3.5,
    level: Level::Default,
    needs: &["c++", "cc", "verilator"],
    run: |run| {
        // The tests run these examples, and `--test` alone does not build them.
        run.check_cargo(&format!("build {SIMULATED} --example msm --example prove --example feed_study"));
        let tests = "--test system --test units --test transfers --test rtl --test reports --test f2";
        run.cargo_test(&format!("{SIMULATED} {tests}"))?;
        run.cargo_test(&format!("{SIMULATED} --test conformance f2::"))?;
        if run.level == Level::Full {
            run.cargo_test("--package xdma-emulator --features rtl --lib")?;
            run.check_cargo(&format!("check {PACKAGES} --features rtl-trace"));
            let engine = "-p xdma-emulator -p xdma-testkit -p xdma-examples --features rtl-dma";
            run.check_cargo(&format!("clippy {engine} --lib -- -D warnings"));
            engine_tests(run, "excluded.txt", "xdma-emulator --features rtl-dma --test conformance")?;
            engine_tests(run, "excluded-driver.txt", "xdma --features xdma-testkit/rtl-dma --test driver")?;
            run.environment.push(("XDMA_LIKE", "f2".into()));
            engine_tests(run, "excluded-f2.txt", "xdma --features xdma-testkit/rtl-f2 --test driver")?;
        }
        Ok(())
    },
};

/// Runs tests on the simulated DMA engine, and prints which of them do not apply.
fn engine_tests(run: &mut Run, list: &str, tests: &str) -> Result<()> {
    let list = fs::read_to_string(run.workspace.root.join("hdl/dma-sim").join(list))?;
    println!("tests that do not apply to the DMA engine:\n{list}");
    let skip = |line: &str| Some(format!(" --skip {}", line.split_once(": ")?.0));
    let skips: String = list.lines().filter_map(skip).collect();
    run.cargo_test(&format!("--package {tests} -- --exact{skips}"))
}

pub const MPI: Suite = Suite {
    name: "mpi",
    about: "sums over several ranks that `mpirun` starts, and their failures",
    minutes: 2.3,
    level: Level::Default,
    needs: &["cargo-clippy", "cc", LIBCLANG, "mpicc", "mpirun"],
    run: |run| {
        // With the packages and features of the other suites, so that nothing is compiled again.
        run.check_cargo(&format!("clippy {SIMULATED},xdma-mpi/mpi --all-targets -- -D warnings"));
        let mpi = format!("{PACKAGES} --features xdma-mpi/mpi");
        run.check_cargo(&format!("build {mpi} --example sum"));
        run.cargo_test(&format!("{mpi} --bin xdma-msm-mpi --test ranks --test scaling"))?;
        run.cargo_test(&format!("{mpi} --lib -- failure:: process:: shares:: wire::"))?;
        run.cargo_test(&format!("{mpi} --doc crates/mpi"))
    },
};
