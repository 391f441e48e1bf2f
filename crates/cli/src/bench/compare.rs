//! The command `xdma bench compare`.
//!
//! A difference is reported only if the rounds of the two results do not overlap. If nothing changed, all five rounds of one result
//! still lie on the same side of the other's five by chance in 1 of 126 cases.

use super::html;
use super::machine::range;
use super::results::{Directions, Results, Sweep, Throughput};
use crate::number::{bytes, nanoseconds, rate};
use crate::output;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

#[derive(Args)]
pub struct Compare {
    /// Result file of the baseline.
    before: PathBuf,
    /// Result file to compare with the baseline.
    after: PathBuf,
    /// Write an HTML page with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A comparison of two results, by the figures that both contain.
#[derive(Serialize)]
pub struct Comparison {
    pub before: String,
    pub after: String,
    /// Whether one of the cards is emulated.
    pub emulated: bool,
    /// Differences that make the comparison invalid or less reliable.
    pub warnings: Vec<String>,
    pub rows: Vec<Row>,
}

/// A figure that both results contain.
#[derive(Serialize)]
pub struct Row {
    /// The varied parameter of a throughput figure; `None` for the median latency of a whole transfer.
    pub throughput_by: Option<Sweep>,
    pub direction: Directions,
    pub bytes: u64,
    /// Number of transfers in flight on each channel.
    pub depth: usize,
    /// Number of channels of each direction.
    pub channels: usize,
    /// In nanoseconds, or bytes per second.
    pub before: f64,
    pub after: f64,
    /// `after` divided by `before`.
    pub ratio: f64,
    /// Lowest and highest ratio of two rounds.
    pub between: (f64, f64),
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Better,
    Worse,
    /// The rounds overlap.
    Noise,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Noise => "within the noise",
        })
    }
}

impl Compare {
    pub fn run(&self, json: bool) -> Result<()> {
        let (before, after) = (Results::load(&self.before)?, Results::load(&self.after)?);
        let comparison = Comparison::new(
            (&self.before.display().to_string(), &before),
            (&self.after.display().to_string(), &after),
        )?;
        if let Some(path) = &self.html {
            html::write(path, || html::compare(&comparison, &before, &after))?;
        }
        output::line(&if json { serde_json::to_string(&comparison)? } else { comparison.text() })
    }
}

impl Comparison {
    fn new((before_name, before): (&str, &Results), (after_name, after): (&str, &Results)) -> Result<Self> {
        let latency = before.latency.iter().filter_map(|old| {
            let new = after.latency_of(old.direction).find(|new| new.bytes == old.bytes)?;
            let medians = (old.total.at(50.0)? as f64, new.total.at(50.0)? as f64);
            let rounds = (old.total.rounds.as_slice(), new.total.rounds.as_slice());
            Some(Row::new(None, old.direction, (old.bytes, 1, 1), medians, rounds))
        });
        let throughput = before.throughput.iter().filter_map(|old| {
            let shape = (old.bytes, old.depth, old.channels);
            let same = |new: &&Throughput| (new.bytes, new.depth, new.channels) == shape;
            let new = after.sweep(old.sweep, old.direction).find(same)?;
            let medians = (old.bytes_per_second, new.bytes_per_second);
            Some(Row::new(Some(old.sweep), old.direction, shape, medians, (&old.rounds, &new.rounds)))
        });
        let rows: Vec<_> = latency.chain(throughput).collect();
        anyhow::ensure!(
            !rows.is_empty(),
            "{before_name} and {after_name} have nothing in common: measure both with the same --sizes, --depths and --channels"
        );
        let warnings = warnings((before_name, before), (after_name, after), rows.len());
        let emulated = before.machine.card.emulated || after.machine.card.emulated;
        Ok(Self { before: before_name.into(), after: after_name.into(), emulated, warnings, rows })
    }

    /// Formats the comparison for a terminal.
    fn text(&self) -> String {
        let mut lines = vec![
            format!("before: {}\nafter:  {}\n", self.before, self.after),
            format!(
                "{:22} {:5} {:>9} {:>5} {:>8} {:>11} {:>11} {:>6} {:>14}",
                "", "", "size", "depth", "channels", "before", "after", "ratio", "ratio range"
            ),
        ];
        lines.extend(self.rows.iter().map(|row| {
            let ratios = format!("{:.2} to {:.2}", row.between.0, row.between.1);
            format!(
                "{:22} {:5} {:>9} {:>5} {:>8} {:>11} {:>11} {:>6.2} {ratios:>14}  {}",
                row.name(),
                row.direction,
                bytes(row.bytes),
                row.depth,
                row.channels,
                row.value(row.before),
                row.value(row.after),
                row.ratio,
                row.verdict
            )
        }));
        lines.push(format!("\n{}", self.summary()));
        lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines.join("\n")
    }

    /// Summarizes the verdicts.
    pub fn summary(&self) -> String {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        format!(
            "{} better, {} worse, {} within the noise (the rounds overlap)",
            count(Verdict::Better),
            count(Verdict::Worse),
            count(Verdict::Noise)
        )
    }
}

impl Row {
    fn new(
        throughput_by: Option<Sweep>,
        direction: Directions,
        (bytes, depth, channels): (u64, usize, usize),
        (before, after): (f64, f64),
        rounds: (&[f64], &[f64]),
    ) -> Self {
        let (old, new) = (range(rounds.0), range(rounds.1));
        let (higher, lower) = (new.0 > old.1, new.1 < old.0);
        let (better, worse) = if throughput_by.is_some() { (higher, lower) } else { (lower, higher) };
        let verdict = match (better, worse) {
            (true, _) => Verdict::Better,
            (_, true) => Verdict::Worse,
            _ => Verdict::Noise,
        };
        let (ratio, between) = (after / before, (new.0 / old.1, new.1 / old.0));
        Self { throughput_by, direction, bytes, depth, channels, before, after, ratio, between, verdict }
    }

    /// Returns the name of the figure.
    pub fn name(&self) -> &'static str {
        match self.throughput_by {
            None => "median latency",
            Some(Sweep::Size) => "throughput by size",
            Some(Sweep::Depth) => "throughput by depth",
            Some(Sweep::Channels) => "throughput by channels",
        }
    }

    /// Formats a value with its unit.
    pub fn value(&self, value: f64) -> String {
        if self.throughput_by.is_some() { rate(value) } else { nanoseconds(value as u64) }
    }
}

fn warnings(
    (old_name, old): (&str, &Results),
    (new_name, new): (&str, &Results),
    common: usize,
) -> Vec<String> {
    let mut all = vec![];
    let (before, after) = (&old.machine, &new.machine);
    let mut check_same = |what: &str, before: String, after: String| {
        if before != after {
            all.push(format!("different {what}: {before} before, {after} after"));
        }
    };
    check_same(
        "card",
        format!("{} {}", before.card.bus, before.card.identity),
        format!("{} {}", after.card.bus, after.card.identity),
    );
    check_same(
        "processor",
        format!("{} × {}", before.processors, before.cpu),
        format!("{} × {}", after.processors, after.cpu),
    );
    check_same("kernel", before.kernel.clone(), after.kernel.clone());
    check_same("ring", before.card.ring.clone(), after.card.ring.clone());
    check_same("wait mode", before.card.wait.clone(), after.card.wait.clone());
    check_same("time per figure", format!("{} s", old.time), format!("{} s", new.time));
    for (name, results, other) in [(old_name, old, new), (new_name, new, old)] {
        let figures = results.latency.len() + results.throughput.len();
        if figures > common {
            all.push(format!("{} figures of {name} are missing in the other result", figures - common));
        }
        let own = results.warnings.iter().filter(|warning| !other.warnings.contains(warning));
        all.extend(own.map(|warning| format!("{name}: {warning}")));
    }
    let both = old.warnings.iter().filter(|warning| new.warnings.contains(warning));
    all.extend(both.map(|warning| format!("both: {warning}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sweep: Option<Sweep>, before: [f64; 3], after: [f64; 3]) -> Row {
        Row::new(sweep, Directions::H2C, (64, 1, 1), (before[1], after[1]), (&before, &after))
    }

    #[test]
    fn overlapping_rounds_are_noise() {
        let low = [1.0, 2.0, 3.0];
        let high = [4.0, 8.0, 9.0];
        assert_eq!(row(None, low, high).verdict, Verdict::Worse);
        assert_eq!(row(None, high, low).verdict, Verdict::Better);
        assert_eq!(row(Some(Sweep::Size), low, high).verdict, Verdict::Better);
        assert_eq!(row(Some(Sweep::Size), high, low).verdict, Verdict::Worse);
        assert_eq!(row(Some(Sweep::Size), low, [2.9, 3.5, 4.0]).verdict, Verdict::Noise);
        let row = row(Some(Sweep::Size), low, high);
        assert_eq!((row.ratio, row.between), (4.0, (4.0 / 3.0, 9.0)));
    }
}
