//! Unit tests, integration tests and documentation tests.

use super::{Level, PACKAGES, Suite};
use crate::packages;
use crate::vm::rig::Rig;

pub const SUITE: Suite = Suite {
    name: "tests",
    about: "unit, integration and, without --quick, documentation tests",
    takes: 3.5,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        // A test verifies the rules for udev, and skips where no udevadm can; Debian 12's own is too old.
        if let Some(rig) = Rig::find(run.workspace) {
            run.environment.push(("XDMA_UDEVADM", rig.file("udevadm").into()));
        }
        // Tests of system calls skip without it.
        run.notes.extend(packages::explain(&["strace"]));
        match run.level {
            Level::Quick => run.cargo_test(&format!("{PACKAGES} --lib --bins --tests --examples")),
            _ => run.cargo_test(PACKAGES),
        }
    },
};
