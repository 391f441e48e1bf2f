//! The parts of the virtual machines, downloaded and built while other suites compile.

use super::{Level, Suite};
use crate::vm::rig::{self, Rig};

pub const SUITE: Suite = Suite {
    name: "rig",
    about: "what virtual machines are made of: QEMU, a kernel and its VFIO modules, udev",
    takes: 1.0,
    level: Level::Default,
    needs: rig::NEEDS,
    run: |run| {
        run.tally.passed += usize::from(Rig::of(run)?.is_some());
        Ok(())
    },
};
