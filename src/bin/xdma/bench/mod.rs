//! `xdma bench`.

mod measure;
mod report;

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::{number, output};
use anyhow::{Context, Result};
use clap::Args;
use measure::{Bench, Measured};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use xdma::regs::Direction;

/// Percentiles that are told.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// Card address of memory that may be overwritten.
    #[arg(long, value_parser = number::parse)]
    address: u64,
    /// Sizes of transfers.
    #[arg(long, value_parser = number::parse, value_delimiter = ',', default_value = "64,1K,4K,16K,64K,256K,1M")]
    sizes: Vec<u64>,
    /// Channel of each direction.
    #[arg(long, default_value_t = 0)]
    channel: usize,
    /// Transfers in flight while throughput is measured.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    depth: u8,
    /// Seconds for each figure.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5, value_parser = seconds)]
    time: f64,
    /// Write a page with plots there, which needs nothing else to be looked at.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let time = text.parse().ok().filter(|time| (0.001..=3600.0).contains(time));
    time.ok_or_else(|| format!("`{text}` is no number of seconds from 0.001 to 3600"))
}

impl Options {
    pub fn run(&self, json: bool) -> Result<()> {
        let largest = self.sizes.iter().copied().max().unwrap_or(0);
        if self.sizes.contains(&0) || largest > 1 << 30 {
            return Err(Failure::Usage("--sizes takes 1 byte to 1G".into()).into());
        }
        let interrupt = Interrupt::listen()?;
        let card = self.card.open()?;
        let bench = Bench {
            card: &card,
            interrupt: &interrupt,
            address: self.address,
            depth: self.depth.into(),
            time: Duration::from_secs_f64(self.time),
        };
        let mut all = vec![];
        for direction in [Direction::H2C, Direction::C2H] {
            all.extend(bench.run(direction, self.channel, &self.sizes)?);
        }
        let machine = Machine::look(&self.card.card.to_string(), self.depth);
        if let Some(path) = &self.html {
            let page = report::page(&machine, &all).context("cannot draw the plots")?;
            std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
        }
        output::line(&if json { object(&machine, &all).to_string() } else { text(&machine, &all) });
        Ok(())
    }
}

/// What has to be known to believe a figure.
struct Machine {
    card: String,
    depth: u8,
    processors: usize,
    kernel: String,
    /// Processes that wanted to run, on average over the last minute.
    load: f64,
}

impl Machine {
    fn look(card: &str, depth: u8) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            card: card.into(),
            depth,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }

    /// Why the figures are not to be believed.
    fn warning(&self) -> Option<String> {
        let Self { load, processors, .. } = self;
        (*load > *processors as f64).then(|| {
            format!("the machine is too busy to believe this: load {load} on {processors} processors; measure again")
        })
    }
}

fn text(machine: &Machine, all: &[Measured]) -> String {
    let mut lines =
        vec![format!("{:4} {:>9} {:>36} {:>36} {:>9}", "", "", "submit, µs", "completion, µs", "")];
    let names = ["p50", "p99", "p99.9", "max"].map(|name| format!("{name:>9}")).concat();
    lines.push(format!("{:4} {:>9} {names} {names} {:>9}", "", "bytes", "MB/s"));
    for measured in all {
        let figures = |histogram: &hdrhistogram::Histogram<u64>| {
            let at = [50.0, 99.0, 99.9, 100.0].map(|p| histogram.value_at_percentile(p) as f64 / 1e3);
            at.map(|value| format!("{value:9.2}")).concat()
        };
        lines.push(format!(
            "{:4} {:>9} {} {} {:9.0}",
            measured.direction.to_string(),
            measured.size,
            figures(&measured.submit),
            figures(&measured.completion),
            measured.bytes_per_second / 1e6
        ));
    }
    lines.extend(machine.warning());
    lines.join("\n")
}

fn object(machine: &Machine, all: &[Measured]) -> Value {
    let percentiles = |histogram: &hdrhistogram::Histogram<u64>| {
        let at = |p: f64| (format!("p{p}"), json!(histogram.value_at_percentile(p)));
        let mut figures: serde_json::Map<_, _> = PERCENTILES.into_iter().map(at).collect();
        figures.insert("max".into(), histogram.max().into());
        figures
    };
    let results = all.iter().map(|measured| {
        json!({
            "direction": measured.direction.to_string(),
            "bytes": measured.size,
            "samples": measured.submit.len(),
            "submit_ns": percentiles(&measured.submit),
            "completion_ns": percentiles(&measured.completion),
            "total_ns": percentiles(&measured.total),
            "bytes_per_second": measured.bytes_per_second,
        })
    });
    json!({
        "card": machine.card,
        "depth": machine.depth,
        "processors": machine.processors,
        "kernel": machine.kernel,
        "load": machine.load,
        "warning": machine.warning(),
        "results": results.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_not_believed() {
        let machine = |load| Machine { card: "f1".into(), depth: 4, processors: 2, kernel: "6".into(), load };
        assert!(machine(2.5).warning().unwrap().contains("load 2.5 on 2 processors"));
        assert_eq!(machine(1.9).warning(), None);
    }

    #[test]
    fn times_are_sensible() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        assert!(["0", "-1", "NaN", "1e9", "x"].iter().all(|text| seconds(text).is_err()));
    }
}
