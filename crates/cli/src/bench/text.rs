//! Formatting of results as text.

use super::results::{Latency, PERCENTILES, Results, Sweep, Throughput, Times, samples_for};
use crate::number::{bytes, nanoseconds, rate};

/// Formats all results, for a terminal of 110 columns.
pub fn text(results: &Results) -> String {
    let rows = results.machine.rows();
    let mut lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:22} {value}")).collect();
    lines.extend(["".into(), "Latency of one transfer at a time".into()]);
    lines.extend(latency(&results.latency));
    lines.extend(missing_percentiles(&results.latency));
    for (sweep, title) in [
        (Sweep::Size, "Throughput by size"),
        (Sweep::Depth, "Throughput by transfers in flight"),
        (Sweep::Channels, "Throughput by channels of each direction"),
    ] {
        let rows: Vec<_> = results.throughput.iter().filter(|of| of.sweep == sweep).collect();
        lines.extend(["".into(), title.into()]);
        lines.extend(throughput(&rows));
    }
    lines.push(String::new());
    lines.extend(results.warnings.iter().map(|warning| format!("warning: {warning}")));
    if results.machine.is_noisy() {
        lines.push(NOISY.into());
    }
    lines.join("\n").trim_end().into()
}

/// Text shown if the machine was noisy.
pub const NOISY: &str =
    "The machine was too noisy to trust the figures. Stop other work on it, and measure again.";

fn latency(all: &[Latency]) -> Vec<String> {
    let names = PERCENTILES.map(|percentile| format!("{:>9}", format!("p{percentile}"))).concat();
    let mut lines = vec![format!("{:4} {:>9} {:10} {:>8}{names}{:>9}", "", "size", "part", "samples", "max")];
    for of in all {
        for (part, times) in [("submit", &of.submit), ("completion", &of.completion), ("total", &of.total)] {
            let label = match part {
                "submit" => format!("{:4} {:>9}", of.direction.to_string(), bytes(of.bytes)),
                _ => format!("{:14}", ""),
            };
            let percentiles: Vec<_> =
                times.percentiles.iter().map(|(_, time)| format!("{:>9}", time_or_dash(*time))).collect();
            let (percentiles, max) = (percentiles.concat(), nanoseconds(times.max));
            lines.push(format!("{label} {part:10} {:>8}{percentiles}{max:>9}", times.samples));
        }
    }
    lines
}

/// Formats a time, or a dash if there were too few samples.
pub fn time_or_dash(time: Option<u64>) -> String {
    time.map_or("-".into(), nanoseconds)
}

/// Explains the missing percentiles, if any.
pub fn missing_percentiles(all: &[Latency]) -> Option<String> {
    let last = all.iter().map(|of| of.total.highest_percentile()).fold(100.0, f64::min);
    let next = PERCENTILES.into_iter().find(|percentile| *percentile > last)?;
    let Times { samples, .. } = &all.iter().min_by_key(|of| of.total.samples)?.total;
    Some(format!(
        "- means too few samples: p{next} needs {} samples, and the smallest number is {samples}; a longer --time collects more",
        samples_for(next)
    ))
}

fn throughput(all: &[&Throughput]) -> Vec<String> {
    let head = format!(
        "{:4} {:>9} {:>6} {:>9} {:>11} {:>23} {:>6} {:>12}",
        "", "size", "depth", "channels", "median", "rounds", "CPU", "other CPU"
    );
    let row = |of: &&Throughput| {
        let (low, high) = super::machine::range(&of.rounds);
        let rounds = format!("{} to {}", rate(low), rate(high));
        format!(
            "{:4} {:>9} {:>6} {:>9} {:>11} {rounds:>23} {:>4.0} % {:>10.0} %",
            of.direction.to_string(),
            bytes(of.bytes),
            of.depth,
            of.channels,
            rate(of.bytes_per_second),
            100.0 * of.cpu,
            100.0 * of.cpu_others
        )
    };
    [head].into_iter().chain(all.iter().map(row)).collect()
}
