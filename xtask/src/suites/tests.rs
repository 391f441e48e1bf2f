//! Unit tests, integration tests and documentation tests.

use super::{Level, PACKAGES, Suite};
use crate::packages;
use crate::vm::rig::Rig;

/// The tests that `--quick` runs. The others take longer than all of these.
const SHORT: &str = "--lib --bins --test allocations --test descriptors --test driver --test emulator --test faults --test hostile \
     --test layers --test pool --test setup";
const LONG: &str = "tests conformance, examples, model, reports, tool and others, documentation tests";

pub const SUITE: Suite = Suite {
    name: "tests",
    about: "unit, integration and documentation tests; with --quick the shorter ones",
    minutes: 11.0,
    level: Level::Quick,
    needs: &["cc"],
    run: |run| {
        // A test verifies the udev rules, and skips if `udevadm` cannot do so; Debian 12's is too old.
        if let Some(rig) = Rig::find(run.workspace) {
            run.environment.push(("XDMA_UDEVADM", rig.file("udevadm").into()));
        }
        // The system call tests skip without it.
        run.notes.extend(packages::describe_missing(&["strace"]));
        match run.level {
            Level::Quick => {
                run.notes.push(format!("left out: {LONG}"));
                run.cargo_test(&format!("{PACKAGES} {SHORT}"))
            }
            level => {
                run.cargo_test(PACKAGES)?;
                // With --full, the tests of driver and card also run on the functions of other boards.
                let like = ["msi", "eight-vectors", "7-series", "streams", "c2h-only", "three-and-one", "f2"];
                like.iter().filter(|_| level == Level::Full).try_for_each(|&card| {
                    run.environment.push(("XDMA_LIKE", card.into()));
                    run.cargo_test("--package xdma --package xdma-emulator --test driver --test conformance")
                })
            }
        }
    },
};
