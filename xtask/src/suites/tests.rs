//! Unit tests, integration tests and documentation tests.

use super::{Level, PACKAGES, Suite};
use crate::packages;
use crate::vm::rig::Rig;

/// What `--quick` runs, and what takes longer than all of it.
const SHORT: &str = "--lib --bins --test allocations --test descriptors --test driver --test emulator --test faults --test hostile \
     --test layers --test pool --test setup";
const LONG: &str = "tests conformance, examples, model, reports, tool and others, documentation tests";

pub const SUITE: Suite = Suite {
    name: "tests",
    about: "unit, integration and documentation tests; with --quick the shorter ones",
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
            Level::Quick => {
                run.notes.push(format!("left out: {LONG}"));
                run.cargo_test(&format!("{PACKAGES} {SHORT}"))
            }
            _ => run.cargo_test(PACKAGES),
        }
    },
};
