//! Unit tests, integration tests and documentation tests.

use super::{Level, PACKAGES, Suite};
use crate::vm::rig::Rig;

pub const SUITE: Suite = Suite {
    name: "tests",
    about: "unit, integration and, without --quick, documentation tests",
    takes: 2.0,
    level: Level::Quick,
    needs: &["cc"],
    // Tests that use one say that they skip where it is missing.
    wants: &["strace"],
    run: |run| {
        if run.level == Level::Quick {
            run.note = "without documentation tests".into();
            return run.cargo_test(&format!("{PACKAGES} --lib --bins --examples --tests"));
        }
        // A test verifies the rules for udev, and skips where no udevadm can. Debian 12's own is too old.
        if let Ok(rig) = Rig::install(run) {
            run.environment.push(("XDMA_UDEVADM", rig.udevadm().into()));
        }
        run.cargo_test(PACKAGES)
    },
};
