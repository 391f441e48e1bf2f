//! Tests the simulated design, and the driver, the examples and the feed study on it.

use super::{Level, PACKAGES, Suite};

pub const SUITE: Suite = Suite {
    name: "rtl",
    about: "the simulated design, and the driver, the examples and the feed study on it; with --full also clippy with the feature, and the build with traces",
    minutes: 2.5,
    level: Level::Default,
    needs: &["c++", "cargo-clippy", "cc", "verilator"],
    run: |run| {
        run.check_cargo("clippy --package xdma-rtl --all-targets -- -D warnings");
        run.cargo_test("--package xdma-rtl --tests")?;
        let rtl = format!("{PACKAGES} --features rtl");
        // The tests run these examples, and `--test` alone does not build them.
        run.check_cargo(&format!("build {rtl} --example msm --example prove --example feed_study"));
        run.cargo_test(&format!("{rtl} --test rtl --test reports"))?;
        if run.level == Level::Full {
            // No other test depends on the feature.
            let targets = "--lib --bins --examples --test rtl --test reports";
            run.check_cargo(&format!("clippy {rtl} {targets} -- -D warnings"));
            run.check_cargo(&format!("check {PACKAGES} --features rtl-trace"));
        }
        Ok(())
    },
};
