//! Instructions of transfers and programs, counted in a virtual machine whose clock counts them, against the committed figures.

use super::{Level, PACKAGES, Suite};
use crate::run::{Run, executable};
use crate::vm::boot::Host;
use crate::vm::image;
use crate::vm::plan::Catalog;
use crate::vm::rig::{self, Rig};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Raised only by a commit that says what was bought.
const BASELINE: &str = "benches/guest/baseline.json";
/// Either way: improvements are written down too.
const TOLERANCE: f64 = 0.05;

pub const SUITE: Suite = Suite {
    name: "counts",
    about: "instructions in a guest of a transfer and of a program",
    takes: 3.0,
    level: Level::Full,
    needs: rig::NEEDS,
    wants: &[],
    run: |run| {
        let Some(rig) = Rig::of(run)? else { return Ok(()) };
        let counted = count(run, rig)?;
        run.note = format!("counted: {counted}");
        let text = std::fs::read_to_string(run.workspace.root.join(BASELINE)).context(BASELINE)?;
        let baseline: Value = serde_json::from_str(&text).context(BASELINE)?;
        for (name, expected) in figures(&baseline) {
            run.check(&name, |_| near(number(&counted, &name)?, expected));
        }
        Ok(())
    },
};

/// Builds `benches/guest`, runs it in the machine, and returns what it counted.
pub fn count(run: &mut Run, rig: Rig) -> Result<Value> {
    let work = run.workspace.work("counts")?;
    let build = format!("build {PACKAGES} --bin xdma --message-format=json");
    let xdma = executable(&run.stdout(run.cargo(&build))?, "xdma")?;
    let build = "build --release --package xdma-guest --message-format=json";
    let guest = executable(&run.stdout(run.cargo(build))?, "xdma-guest")?;
    let small = work.join("small.cpio");
    image::make("small", &rig, &small, &[&guest])?;
    let host = Host { rig, catalog: Catalog::read()?, xdma, debian: small.clone(), small, work };
    let machine = &host.catalog.counting;
    let text = host.boot(machine, &machine.jobs)?;
    // The only line of JSON.
    let mut objects = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let counts = objects.find(Value::is_object);
    counts.with_context(|| format!("nothing was counted: {}", last_words(&text)))
}

fn last_words(text: &str) -> &str {
    let said = text.lines().rfind(|line| !line.is_empty() && !line.starts_with("vm: "));
    said.unwrap_or("the guest printed nothing")
}

/// Every number, by its JSON pointer.
fn figures(baseline: &Value) -> Vec<(String, u64)> {
    let groups = baseline.as_object().into_iter().flatten();
    let figures = groups.flat_map(|(group, figures)| {
        let figures = figures.as_object().into_iter().flatten();
        figures.filter_map(move |(name, value)| Some((format!("/{group}/{name}"), value.as_u64()?)))
    });
    figures.collect()
}

fn number(counted: &Value, name: &str) -> Result<u64> {
    let value = counted.pointer(name).and_then(Value::as_u64);
    value.with_context(|| format!("{name} was not counted"))
}

fn near(counted: u64, expected: u64) -> Result<()> {
    let off = counted.abs_diff(expected) as f64;
    ensure!(
        off <= expected as f64 * TOLERANCE,
        "{counted} instructions, and {expected} in {BASELINE}: explain it in a commit that changes that file"
    );
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_figure_is_compared() {
        let baseline = json!({ "transfers": { "4096": 250 }, "program": { "first": 3, "rerun": 2 } });
        let figures = figures(&baseline);
        assert_eq!(figures.len(), 3);
        assert!(figures.contains(&("/transfers/4096".into(), 250)));
        assert_eq!(number(&json!({ "program": { "first": 7 } }), "/program/first").unwrap(), 7);
        assert!(number(&json!({}), "/program/first").is_err());
    }

    #[test]
    fn five_percent_either_way() {
        for (counted, fits) in [(100, true), (105, true), (95, true), (106, false), (94, false), (0, false)] {
            assert_eq!(near(counted, 100).is_ok(), fits, "{counted}");
        }
    }
}
