//! Unit tests, integration tests and documentation tests.

use super::Suite;

pub const SUITE: Suite = Suite {
    name: "tests",
    about: "unit, integration and documentation tests",
    needs: &["cc"],
    // Tests that use it say that they skip where it is missing.
    wants: &["strace"],
    // `xdma-rtl` needs Verilator, and is tested with the design.
    run: |run| run.cargo_test("--workspace --exclude xdma-rtl"),
};
