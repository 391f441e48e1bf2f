//! Downloads and builds the components of the virtual machines while other suites compile.

use super::{Level, Suite};
use crate::vm::rig::{self, Rig};

pub const SUITE: Suite = Suite {
    name: "rig",
    about: "the components of the virtual machines: QEMU, a kernel and its VFIO modules, udev",
    minutes: 1.3,
    level: Level::Default,
    needs: rig::NEEDS,
    run: |run| {
        run.tally.passed += usize::from(Rig::get_or_build(run)?.is_some());
        Ok(())
    },
};
