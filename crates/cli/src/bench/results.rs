//! The results of a run, in the format that `--json` prints and `compare` reads.

use super::machine::Machine;
use crate::file;
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use xdma::regs::Direction;

/// Name of the file format.
const FORMAT: &str = "xdma bench";
/// Version of the file format. Other versions are rejected.
const VERSION: u32 = 2;
/// Percentiles that are reported.
pub const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
/// Number of samples that must lie above a percentile for it to be reported, since fewer would mostly show chance. The median is always
/// reported.
const MIN_SAMPLES_ABOVE: f64 = 10.0;

/// The results of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    format: String,
    version: u32,
    pub machine: Machine,
    /// Time for each figure, in seconds.
    pub time: f64,
    /// Reasons not to trust the figures.
    pub warnings: Vec<String>,
    pub latency: Vec<Latency>,
    pub throughput: Vec<Throughput>,
}

/// One direction, or both at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Directions {
    H2C,
    C2H,
    #[serde(rename = "both")]
    Both,
}

impl Directions {
    /// Returns the directions as a slice.
    pub fn as_slice(self) -> &'static [Direction] {
        match self {
            Self::H2C => &[Direction::H2C],
            Self::C2H => &[Direction::C2H],
            Self::Both => &[Direction::H2C, Direction::C2H],
        }
    }
}

impl fmt::Display for Directions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::H2C => "H2C",
            Self::C2H => "C2H",
            Self::Both => "both",
        })
    }
}

/// Latency of transfers of one size, one at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub direction: Directions,
    pub bytes: u64,
    /// Duration of the call that submits the transfer.
    pub submit: Times,
    /// Time from there until the completion is seen.
    pub completion: Times,
    /// Sum of both.
    pub total: Times,
}

/// Statistics of a measured time, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Times {
    pub samples: u64,
    pub min: u64,
    pub max: u64,
    pub mean: f64,
    /// Pairs of a percentile of [`PERCENTILES`] and its time; `None` if there are too few samples.
    pub percentiles: Vec<(f64, Option<u64>)>,
    /// Pairs of a percentile and its time, for plots.
    pub curve: Vec<(f64, u64)>,
    /// Median of each round.
    pub rounds: Vec<f64>,
}

/// Throughput of one configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Throughput {
    pub sweep: Sweep,
    pub direction: Directions,
    pub bytes: u64,
    /// Number of transfers in flight on each channel.
    pub depth: usize,
    /// Number of channels of each direction.
    pub channels: usize,
    pub transfers: u64,
    /// Sum over all channels and directions; the median of the rounds.
    pub bytes_per_second: f64,
    pub rounds: Vec<f64>,
    /// Processor time of the measuring thread, as a share of elapsed time.
    pub cpu: f64,
    /// Processor time of the other threads of this process, such as those of an emulated card, as a share of elapsed time.
    pub cpu_others: f64,
}

/// The parameter that is varied while the others are fixed.
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

    /// Reads a file that `--json` printed.
    pub fn load(path: &Path) -> Result<Self> {
        let text = file::read(path)?;
        Self::parse(text.as_bytes()).with_context(|| {
            let remedy = "`xdma bench --json > FILE` creates one";
            format!("{} is not a result of xdma bench ({remedy})", path.display())
        })
    }

    fn parse(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let head: Head = serde_json::from_slice(text)?;
        ensure!(head.format == FORMAT, "its format is {:?}", head.format);
        ensure!(
            head.version == VERSION,
            "it has version {} of the format, and this program supports only version {VERSION}; measure again with this program",
            head.version
        );
        let results: Self = serde_json::from_slice(text)?;
        if results.latency.is_empty() && results.throughput.is_empty() {
            bail!("it contains no figures");
        }
        Ok(results)
    }

    /// Returns the throughput figures of one sweep, in order.
    pub fn sweep(&self, sweep: Sweep, direction: Directions) -> impl Iterator<Item = &Throughput> {
        self.throughput.iter().filter(move |of| of.sweep == sweep && of.direction == direction)
    }

    /// Returns the latency figures of one direction.
    pub fn latency_of(&self, direction: Directions) -> impl Iterator<Item = &Latency> {
        self.latency.iter().filter(move |of| of.direction == direction)
    }
}

impl Times {
    pub fn new(times: &Histogram<u64>, rounds: Vec<f64>) -> Self {
        let at = |percentile: f64| times.value_at_percentile(percentile);
        let reported = |percentile: f64| is_reported(times.len(), percentile).then(|| at(percentile));
        // Equal distances on a logarithmic axis of 1 / (1 - p), which gives the tail more space.
        let curve = (0..=60).map(|step| 100.0 * (1.0 - 10f64.powf(f64::from(step) / -12.0)));
        Self {
            samples: times.len(),
            min: times.min(),
            max: times.max(),
            mean: times.mean(),
            percentiles: PERCENTILES.map(|percentile| (percentile, reported(percentile))).into(),
            curve: curve.filter_map(|percentile| Some((percentile, reported(percentile)?))).collect(),
            rounds,
        }
    }

    /// Returns the time of a percentile, if there are enough samples for it.
    pub fn at(&self, percentile: f64) -> Option<u64> {
        self.percentiles.iter().find(|(at, _)| *at == percentile)?.1
    }

    /// Returns the highest percentile that is reported.
    pub fn highest_percentile(&self) -> f64 {
        self.percentiles.iter().filter(|(_, time)| time.is_some()).map(|(at, _)| *at).fold(0.0, f64::max)
    }
}

/// Returns whether there are enough samples to report a percentile.
fn is_reported(samples: u64, percentile: f64) -> bool {
    samples > 0
        && (percentile <= 50.0 || samples as f64 * (100.0 - percentile) / 100.0 > MIN_SAMPLES_ABOVE - 1e-6)
}

/// Returns the number of samples that a percentile needs.
pub fn samples_for(percentile: f64) -> u64 {
    (MIN_SAMPLES_ABOVE * 100.0 / (100.0 - percentile)).round() as u64
}

/// Returns the median: the middle value, or the mean of the two middle values.
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
    fn percentiles_need_enough_samples() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000).for_each(|time| histogram.record(time).unwrap());
        let times = Times::new(&histogram, vec![]);
        let reported: Vec<_> = times.percentiles.iter().map(|(_, time)| *time).collect();
        assert_eq!(reported, [Some(500), Some(900), Some(990), None, None, None]);
        assert_eq!((times.highest_percentile(), times.at(99.0), times.at(99.9)), (99.0, Some(990), None));
        assert!(times.curve.iter().all(|(percentile, _)| *percentile <= 99.0 + 1e-9));
        assert_eq!((samples_for(99.0), samples_for(99.999)), (1_000, 1_000_000));
        let none = Times::new(&Histogram::new(3).unwrap(), vec![]);
        assert!(none.percentiles.iter().all(|(_, time)| time.is_none()) && none.curve.is_empty());
    }

    #[test]
    fn medians() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn other_files_are_rejected() {
        let error = |text: &str| format!("{:#}", Results::parse(text.as_bytes()).unwrap_err());
        assert!(error("").contains("EOF") && error("[1]").contains("invalid"));
        assert!(error(r#"{"format": "mp3", "version": 1}"#).contains("\"mp3\""));
        assert!(error(r#"{"format": "xdma bench", "version": 7}"#).contains("measure again"));
        assert!(error(r#"{"format": "xdma bench", "version": 2}"#).contains("machine"));
    }
}
