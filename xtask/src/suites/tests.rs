//! Unit tests, integration tests and documentation tests.

use super::Suite;
use crate::vm::rig::Rig;

pub const SUITE: Suite = Suite {
    name: "tests",
    about: "unit, integration and documentation tests",
    needs: &["cc"],
    // Tests that use one say that they skip where it is missing.
    wants: &["strace", "make", "bc", "xz"],
    run: |run| {
        // A test verifies the rules for udev, and skips where no udevadm can.
        if let Ok(udevadm) = Rig::install(&run.workspace.prefix()).and_then(|rig| rig.udevadm()) {
            run.environment.push(("XDMA_UDEVADM", udevadm));
        }
        // `xdma-rtl` needs Verilator, and is tested with the design.
        run.cargo_test("--workspace --exclude xdma-rtl")
    },
};
