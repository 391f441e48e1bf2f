//! `xdma bench compare`.
//!
//! A difference counts only where the rounds of the two results do not overlap: five rounds of the same thing land all on one side
//! of five others by chance in 1 of 126 cases.

use super::html;
use super::machine::range;
use super::results::{Results, Sweep, Throughput, Way};
use crate::number::{bytes, nanoseconds, rate};
use crate::output;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

#[derive(Args)]
pub struct Compare {
    /// The result to compare with.
    before: PathBuf,
    /// The other one.
    after: PathBuf,
    /// Write a page with plots there.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Two results, and what is in both.
#[derive(Serialize)]
pub struct Comparison {
    pub before: String,
    pub after: String,
    /// Why they should not be compared, or only with care.
    pub warnings: Vec<String>,
    pub rows: Vec<Row>,
}

/// The same thing, measured twice.
#[derive(Serialize)]
pub struct Row {
    /// Throughput, and over what it was varied; none if it is the median latency of a whole transfer.
    pub throughput_by: Option<Sweep>,
    pub direction: Way,
    pub bytes: u64,
    /// Transfers in flight on each channel.
    pub depth: usize,
    /// Channels of each direction.
    pub channels: usize,
    /// Nanoseconds, or bytes a second.
    pub before: f64,
    pub after: f64,
    /// After by before.
    pub ratio: f64,
    /// The ratio at the least and at the most, as far as rounds lay apart.
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
        Ok(Self { before: before_name.into(), after: after_name.into(), warnings, rows })
    }

    /// For a terminal.
    fn text(&self) -> String {
        let mut lines = vec![
            format!("before: {}\nafter:  {}\n", self.before, self.after),
            format!(
                "{:22} {:5} {:>9} {:>5} {:>8} {:>11} {:>11} {:>6} {:>14}",
                "", "", "size", "depth", "channels", "before", "after", "ratio", "between"
            ),
        ];
        lines.extend(self.rows.iter().map(|row| {
            let between = format!("{:.2} and {:.2}", row.between.0, row.between.1);
            format!(
                "{:22} {:5} {:>9} {:>5} {:>8} {:>11} {:>11} {:>6.2} {between:>14}  {}",
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
        lines.extend(self.warnings.iter().map(|warning| format!("note: {warning}")));
        lines.join("\n")
    }

    /// How many are better, worse, or neither.
    pub fn summary(&self) -> String {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        format!(
            "{} better, {} worse, {} within the noise (rounds overlap)",
            count(Verdict::Better),
            count(Verdict::Worse),
            count(Verdict::Noise)
        )
    }
}

impl Row {
    fn new(
        throughput_by: Option<Sweep>,
        direction: Way,
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

    /// What was measured.
    pub fn name(&self) -> &'static str {
        match self.throughput_by {
            None => "median latency",
            Some(Sweep::Size) => "throughput by size",
            Some(Sweep::Depth) => "throughput by depth",
            Some(Sweep::Channels) => "throughput by channels",
        }
    }

    /// A value with its unit.
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
    let (was, is) = (&old.machine, &new.machine);
    let mut differs = |what: &str, was: String, is: String| {
        if was != is {
            all.push(format!("not the same {what}: {was} before, {is} after"));
        }
    };
    differs(
        "card",
        format!("{} {}", was.card.bus, was.card.identity),
        format!("{} {}", is.card.bus, is.card.identity),
    );
    differs(
        "processor",
        format!("{} of {}", was.processors, was.cpu),
        format!("{} of {}", is.processors, is.cpu),
    );
    differs("kernel", was.kernel.clone(), is.kernel.clone());
    differs("ring", was.card.ring.clone(), is.card.ring.clone());
    differs("way of waiting", was.card.wait.clone(), is.card.wait.clone());
    differs("time for each figure", format!("{} s", old.time), format!("{} s", new.time));
    for (name, results, other) in [(old_name, old, new), (new_name, new, old)] {
        let figures = results.latency.len() + results.throughput.len();
        if figures > common {
            all.push(format!("{} figures of {name} are not in the other one", figures - common));
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

    fn row(of: Option<Sweep>, before: [f64; 3], after: [f64; 3]) -> Row {
        Row::new(of, Way::H2C, (64, 1, 1), (before[1], after[1]), (&before, &after))
    }

    #[test]
    fn only_rounds_that_lie_apart_make_a_difference() {
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
