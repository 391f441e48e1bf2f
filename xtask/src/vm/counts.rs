//! Instructions of the driver, counted in a machine whose clock they are.

use super::boot::{Boot, Host, Iommu, Machine, System};
use super::image;
use super::rig::Rig;
use crate::run::{Run, executable};
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// Builds `benches/guest`, runs it in the machine, and returns what it counted.
pub fn count(run: &mut Run, rig: Rig) -> Result<Value> {
    let work = run.workspace.work("counts")?;
    // The same as for the suites of tests, which have it already.
    let build = "test --workspace --no-run --test driver --features cli --message-format=json";
    let xdma = executable(&run.stdout(run.cargo(build))?, "xdma")?;
    let build = "build --release --package xdma-guest --message-format=json";
    let messages = run.stdout(run.cargo(build))?;
    let guest = executable(&messages, "xdma-guest")?;
    let small = image::small(&rig, &image::strip(&[&guest], &work)?)?;
    let host = Host { rig, xdma, small, debian: vec![], work };
    let text = host.boot(&boot())?;
    // The only line of JSON.
    let counts =
        text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok().filter(Value::is_object));
    counts.with_context(|| format!("nothing was counted: {}", last_words(&text)))
}

fn boot() -> Boot {
    let job = "load_modules\n\
               echo 128 >/proc/sys/vm/nr_hugepages\n\
               echo vfio-pci >/sys/bus/pci/devices/$XDMA_CARD/driver_override\n\
               echo $XDMA_CARD >/sys/bus/pci/drivers_probe\n\
               xdma-guest $XDMA_CARD $XDMA_TEST_CONTROL 2>&1\n";
    Boot {
        name: "counting".into(),
        iommu: Iommu::Intel,
        card: "--profile f1".into(),
        machine: Machine::Counting,
        system: System::Small,
        jobs: vec![job.into()],
        deadline: Duration::from_secs(300),
    }
}

fn last_words(text: &str) -> &str {
    text.lines()
        .rfind(|line| !line.is_empty() && !line.starts_with("vm: "))
        .unwrap_or("the guest said nothing")
}

/// The counts for a reader, a line each.
pub fn table(counts: &Value) -> String {
    let transfers = counts["transfers"].as_object().into_iter().flatten();
    let mut lines: Vec<_> = transfers.map(|(bytes, count)| (bytes.parse().unwrap_or(0u64), count)).collect();
    lines.sort_unstable_by_key(|(bytes, _)| *bytes);
    let mut text = String::from("instructions in the guest, waiting excluded\n");
    for (bytes, count) in lines {
        text.push_str(&format!("  one transfer of {bytes:>7} bytes  {count:>8}\n"));
    }
    let program = &counts["program"];
    text.push_str(&format!("  an MSM of {} pairs, first run  {:>8}\n", program["pairs"], program["first"]));
    text.push_str(&format!("  the same, run again             {:>8}\n", program["rerun"]));
    text
}
