//! What a run found, as it is printed with `--json`, kept in files, and compared.

use super::machine::Machine;
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use xdma::regs::Direction;

/// What the file says it is.
const FORMAT: &str = "xdma bench";
/// Of the file. A program reads no other.
const VERSION: u32 = 1;
/// Percentiles that are told.
pub const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
/// A percentile is told if so many samples lie above it: fewer say more of chance than of the card. The median always is.
const BEYOND: f64 = 10.0;

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    format: String,
    version: u32,
    pub machine: Machine,
    /// Seconds for each figure.
    pub time: f64,
    /// Why the figures are not to be believed, or for what they do not stand.
    pub warnings: Vec<String>,
    pub latency: Vec<Latency>,
    pub throughput: Vec<Throughput>,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    H2C,
    C2H,
    #[serde(rename = "both")]
    Both,
}

impl Way {
    /// The directions in it.
    pub fn directions(self) -> &'static [Direction] {
        match self {
            Self::H2C => &[Direction::H2C],
            Self::C2H => &[Direction::C2H],
            Self::Both => &[Direction::H2C, Direction::C2H],
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::H2C => "H2C",
            Self::C2H => "C2H",
            Self::Both => "both",
        })
    }
}

/// How long transfers take that have the channel for themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub direction: Way,
    pub bytes: u64,
    /// Until the engine was told.
    pub submit: Times,
    /// From then until it was known to be finished.
    pub completion: Times,
    /// Both.
    pub total: Times,
}

/// Many times of the same thing, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Times {
    pub samples: u64,
    pub min: u64,
    pub max: u64,
    pub mean: f64,
    /// Of [`PERCENTILES`]; none where there are too few samples.
    pub percentiles: Vec<(f64, Option<u64>)>,
    /// Percentiles and times, for plots.
    pub curve: Vec<(f64, u64)>,
    /// The median of each round.
    pub rounds: Vec<f64>,
}

/// Bytes a second with so many transfers in flight on so many channels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throughput {
    pub sweep: Sweep,
    pub direction: Way,
    pub bytes: u64,
    /// Transfers in flight on each channel.
    pub depth: usize,
    /// Channels of each direction.
    pub channels: usize,
    pub transfers: u64,
    /// Of all directions together; the median of the rounds.
    pub bytes_per_second: f64,
    pub rounds: Vec<f64>,
    /// Processors that the measuring thread used: 1 is all of one.
    pub cpu: f64,
    /// Processors that the other threads of this process used: those of an emulated card that lives in it.
    pub cpu_others: f64,
}

/// What is varied while all else stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sweep {
    Size,
    Depth,
    Channels,
}

impl Results {
    pub fn new(machine: Machine, time: f64, latency: Vec<Latency>, throughput: Vec<Throughput>) -> Self {
        let warnings = machine.warnings();
        Self { format: FORMAT.into(), version: VERSION, machine, time, warnings, latency, throughput }
    }

    /// Reads what `--json` printed.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            let remedy = "such a file is made by: xdma bench --json > FILE";
            format!("{} is no result of xdma bench ({remedy})", path.display())
        })
    }

    fn parse(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let head: Head = serde_json::from_slice(text)?;
        ensure!(head.format == FORMAT, "it is of the format {:?}", head.format);
        ensure!(
            head.version == VERSION,
            "it has version {} of the format, and this program reads version {VERSION}: measure again with this program",
            head.version
        );
        let results: Self = serde_json::from_slice(text)?;
        if results.latency.is_empty() && results.throughput.is_empty() {
            bail!("it has no figures");
        }
        Ok(results)
    }

    /// Throughput where one thing was varied, in its order.
    pub fn sweep(&self, sweep: Sweep, direction: Way) -> impl Iterator<Item = &Throughput> {
        self.throughput.iter().filter(move |of| of.sweep == sweep && of.direction == direction)
    }

    /// Latencies of one direction.
    pub fn latency_of(&self, direction: Way) -> impl Iterator<Item = &Latency> {
        self.latency.iter().filter(move |of| of.direction == direction)
    }
}

impl Times {
    pub fn new(times: &Histogram<u64>, rounds: Vec<f64>) -> Self {
        let at = |percentile: f64| times.value_at_percentile(percentile);
        let told = |percentile: f64| is_told(times.len(), percentile).then(|| at(percentile));
        // The same distance between neighbours on an axis of 1 / (1 - p), which makes room for the tail.
        let curve = (0..=60).map(|step| 100.0 * (1.0 - 10f64.powf(f64::from(step) / -12.0)));
        Self {
            samples: times.len(),
            min: times.min(),
            max: times.max(),
            mean: times.mean(),
            percentiles: PERCENTILES.map(|percentile| (percentile, told(percentile))).into(),
            curve: curve.filter_map(|percentile| Some((percentile, told(percentile)?))).collect(),
            rounds,
        }
    }

    /// A percentile, if there are enough samples for it.
    pub fn at(&self, percentile: f64) -> Option<u64> {
        self.percentiles.iter().find(|(at, _)| *at == percentile)?.1
    }

    /// The highest percentile that is told.
    pub fn last(&self) -> f64 {
        self.percentiles.iter().filter(|(_, time)| time.is_some()).map(|(at, _)| *at).fold(0.0, f64::max)
    }
}

/// Whether so many samples say something of a percentile.
fn is_told(samples: u64, percentile: f64) -> bool {
    samples > 0 && (percentile <= 50.0 || samples as f64 * (100.0 - percentile) / 100.0 > BEYOND - 1e-6)
}

/// How many samples a percentile takes.
pub fn samples_for(percentile: f64) -> u64 {
    (BEYOND * 100.0 / (100.0 - percentile)).round() as u64
}

/// The middle one; of two the mean.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len.is_multiple_of(2) => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
        len => sorted[len / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_need_samples() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000).for_each(|time| histogram.record(time).unwrap());
        let times = Times::new(&histogram, vec![]);
        let told: Vec<_> = times.percentiles.iter().map(|(_, time)| *time).collect();
        assert_eq!(told, [Some(500), Some(900), Some(990), None, None, None]);
        assert_eq!((times.last(), times.at(99.0), times.at(99.9)), (99.0, Some(990), None));
        assert!(times.curve.iter().all(|(percentile, _)| *percentile <= 99.0 + 1e-9));
        assert_eq!((samples_for(99.0), samples_for(99.999)), (1_000, 1_000_000));
        let none = Times::new(&Histogram::new(3).unwrap(), vec![]);
        assert!(none.percentiles.iter().all(|(_, time)| time.is_none()) && none.curve.is_empty());
    }

    #[test]
    fn the_middle_one() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn other_files_are_refused() {
        let said = |text: &str| format!("{:#}", Results::parse(text.as_bytes()).unwrap_err());
        assert!(said("").contains("EOF") && said("[1]").contains("invalid"));
        assert!(said(r#"{"format": "mp3", "version": 1}"#).contains("\"mp3\""));
        assert!(said(r#"{"format": "xdma bench", "version": 7}"#).contains("measure again"));
        assert!(said(r#"{"format": "xdma bench", "version": 1}"#).contains("machine"));
    }
}
