//! Results as text.

use super::results::{Latency, PERCENTILES, Results, Sweep, Throughput, Times, samples_for};
use crate::number::{bytes, nanoseconds, rate};

/// Everything, for a terminal of 110 columns.
pub fn text(results: &Results) -> String {
    let rows = results.machine.rows();
    let mut lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:22} {value}")).collect();
    lines.extend(["".into(), "Latency of one transfer, and its parts".into()]);
    lines.extend(latency(&results.latency));
    lines.extend(missing(&results.latency));
    for (sweep, title) in [
        (Sweep::Size, "Throughput by size"),
        (Sweep::Depth, "Throughput by transfers in flight"),
        (Sweep::Channels, "Throughput by channels in each direction"),
    ] {
        let rows: Vec<_> = results.throughput.iter().filter(|of| of.sweep == sweep).collect();
        lines.extend(["".into(), title.into()]);
        lines.extend(throughput(&rows));
    }
    lines.push(String::new());
    lines.extend(results.warnings.iter().map(|warning| format!("note: {warning}")));
    if results.machine.is_noisy() {
        lines
            .push("the machine was too noisy to believe the figures; make it quiet and measure again".into());
    }
    lines.join("\n").trim_end().into()
}

fn latency(all: &[Latency]) -> Vec<String> {
    let names = PERCENTILES.map(|percentile| format!("{:>9}", format!("p{percentile}"))).concat();
    let mut lines = vec![format!("{:4} {:>9} {:10} {:>8}{names}{:>9}", "", "size", "", "samples", "max")];
    for of in all {
        for (kind, times) in [("submit", &of.submit), ("completion", &of.completion), ("total", &of.total)] {
            let place = match kind {
                "submit" => format!("{:4} {:>9}", of.direction.to_string(), bytes(of.bytes)),
                _ => format!("{:14}", ""),
            };
            let told: Vec<_> =
                times.percentiles.iter().map(|(_, time)| format!("{:>9}", told(*time))).collect();
            let (told, max) = (told.concat(), nanoseconds(times.max));
            lines.push(format!("{place} {kind:10} {:>8}{told}{max:>9}", times.samples));
        }
    }
    lines
}

/// A time, or that there were too few samples for it.
pub fn told(time: Option<u64>) -> String {
    time.map_or("-".into(), nanoseconds)
}

/// Why percentiles are missing, and what they take.
pub fn missing(all: &[Latency]) -> Option<String> {
    let last = all.iter().map(|of| of.total.last()).fold(100.0, f64::min);
    let next = PERCENTILES.into_iter().find(|percentile| *percentile > last)?;
    let Times { samples, .. } = &all.iter().min_by_key(|of| of.total.samples)?.total;
    Some(format!(
        "- means too few samples: p{next} takes {} of them, and there were from {samples}; --time gives more",
        samples_for(next)
    ))
}

fn throughput(all: &[&Throughput]) -> Vec<String> {
    let head = format!(
        "{:4} {:>9} {:>6} {:>9} {:>11} {:>23} {:>6} {:>12}",
        "", "size", "depth", "channels", "median", "rounds", "CPU", "others' CPU"
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
