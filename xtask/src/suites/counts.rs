//! Counts the instructions of transfers and programs in a virtual machine whose clock counts instructions, and compares them with
//! the committed figures.

use super::{Level, PACKAGES, Suite};
use crate::run::{Run, executable};
use crate::vm::boot::Launcher;
use crate::vm::plan::Catalog;
use crate::vm::rig::{self, Rig};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The committed figures, by JSON pointer. Raise one only in a commit that explains why. Those of the broker are not included, since
/// they vary by a fifth with the scheduling of two processes.
const BASELINE: &str = "benches/guest/baseline.json";
/// Allowed relative difference. It applies in both directions, since improvements must be recorded too.
const TOLERANCE: f64 = 0.05;

pub const SUITE: Suite = Suite {
    name: "counts",
    about: "instruction counts of a transfer and a program, in a virtual machine",
    minutes: 3.0,
    level: Level::Full,
    needs: rig::NEEDS,
    run: |run| {
        let Some(rig) = Rig::get_or_build(run)? else { return Ok(()) };
        let counted = count(run, rig)?;
        let text = std::fs::read_to_string(run.workspace.root.join(BASELINE)).context(BASELINE)?;
        let baseline: Value = serde_json::from_str(&text).context(BASELINE)?;
        for (pointer, expected) in baseline.as_object().context(BASELINE)? {
            run.check(pointer, |_| compare(counted.pointer(pointer).unwrap_or(&Value::Null), expected));
        }
        Ok(())
    },
};

/// Builds `benches/guest`, runs it in the virtual machine, and returns its counts.
pub fn count(run: &mut Run, rig: Rig) -> Result<Value> {
    let work = run.workspace.work_dir("counts")?;
    let xdma = executable(&run.build(&format!("build {PACKAGES} --bin xdma"))?, "xdma")?;
    let packages = "--package xdma-guest --package xdma-cli --package xdma-preload";
    let release = run.build(&format!("build --release {packages}"))?;
    let (guest, tool) = (executable(&release, "xdma-guest")?, executable(&release, "xdma")?);
    let image = work.join("small.cpio");
    rig.make_image("small", &image, &[&guest, &tool, &tool.with_file_name("libxdma_preload.so")])?;
    let launcher = Launcher { rig, catalog: Catalog::read()?, xdma, work };
    let machine = &launcher.catalog.counting;
    let text = launcher.boot(machine, &machine.jobs)?;
    // The counts are on one line of JSON; no other line is JSON.
    let mut objects = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects
        .find(Value::is_object)
        .context("the guest printed no counts; see target/xtask/counts/counting/serial.log")
}

fn compare(counted: &Value, expected: &Value) -> Result<()> {
    let counted = counted.as_u64().context("the guest printed no such count")?;
    let expected = expected.as_u64().context(BASELINE)?;
    ensure!(
        counted.abs_diff(expected) as f64 <= expected as f64 * TOLERANCE,
        "{counted} instructions, but {BASELINE} has {expected}; update it in a commit that explains the change"
    );
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_figure_may_differ_by_five_percent() {
        for (count, fits) in [(100, true), (105, true), (95, true), (106, false), (94, false), (0, false)] {
            assert_eq!(compare(&json!(count), &json!(100)).is_ok(), fits, "{count}");
        }
        assert!(compare(&Value::Null, &json!(100)).is_err());
    }
}
