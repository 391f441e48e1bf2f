//! What is plotted.

use super::axis::Unit;
use super::chart::{Chart, KINDS, Line, ORDERED, Point};
use crate::bench::compare::Row;
use crate::bench::machine::range;
use crate::bench::results::{Latency, Results, Sweep, Throughput, Times, Way};
use crate::number::bytes;
use plotters::style::RGBColor;

const PERCENTILE: (&str, Unit) = ("percentile", Unit::Percentile);
const SIZE: (&str, Unit) = ("size of a transfer", Unit::Bytes);
const TIME: (&str, Unit) = ("latency", Unit::Time);
const WAYS: [Way; 3] = [Way::H2C, Way::C2H, Way::Both];
/// Said of plots with a line at each point.
const BARS: &str = "Bars go from the slowest round to the quickest.";

/// Of the latencies.
pub fn latency(results: &Results) -> Vec<Chart> {
    let cdf = |way, title| {
        Chart {
        title,
        note: "From before the submission until the completion is seen. A line ends where there are too few samples.".into(),
        x: PERCENTILE,
        y: TIME,
        lines: spread(&results.latency_of(way).collect::<Vec<_>>()),
    }
    };
    let parts = |way, title| {
        let part = |name: &str, colour, of: fn(&Latency) -> &Times| {
            let points = results.latency_of(way).filter_map(|at| {
                let times = of(at);
                Some(Point {
                    x: at.bytes as f64,
                    y: times.at(50.0)? as f64,
                    range: Some(range(&times.rounds)),
                })
            });
            line(name.into(), colour, points)
        };
        Chart {
            title,
            note: format!(
                "Medians. Submission ends when the engine is told, completion when it is seen. {BARS}"
            ),
            x: SIZE,
            y: TIME,
            lines: vec![
                part("submission", KINDS[2], |of| &of.submit),
                part("completion", KINDS[3], |of| &of.completion),
            ],
        }
    };
    vec![
        cdf(Way::H2C, "Latency to the card, by size"),
        cdf(Way::C2H, "Latency from the card, by size"),
        parts(Way::H2C, "Parts of the latency to the card"),
        parts(Way::C2H, "Parts of the latency from the card"),
    ]
}

/// Of the throughput.
pub fn throughput(results: &Results) -> Vec<Chart> {
    let lines = |sweep, x: fn(&Throughput) -> f64| {
        let of = |way| {
            let points = results.sweep(sweep, way).map(|at| Point {
                x: x(at),
                y: at.bytes_per_second,
                range: Some(range(&at.rounds)),
            });
            line(name(way), colour(way), points)
        };
        WAYS.map(of).into_iter().filter(|line| !line.points.is_empty()).collect::<Vec<_>>()
    };
    let fixed = |sweep| results.throughput.iter().find(|of| of.sweep == sweep);
    let depth = fixed(Sweep::Size).map_or(0, |of| of.depth);
    let cpu = |way| {
        let points =
            results.sweep(Sweep::Size, way).map(|at| Point { x: at.bytes as f64, y: at.cpu, range: None });
        line(name(way), colour(way), points)
    };
    let size = |sweep| fixed(sweep).map_or(String::new(), |of| bytes(of.bytes));
    vec![
        Chart {
            title: "Throughput by size",
            note: format!("One channel, {depth} transfers in flight (fewer of the largest). {BARS}"),
            x: SIZE,
            y: ("bytes a second", Unit::Rate),
            lines: lines(Sweep::Size, |at| at.bytes as f64),
        },
        Chart {
            title: "Throughput by transfers in flight",
            note: format!("One channel, transfers of {}. {BARS}", size(Sweep::Depth)),
            x: ("transfers in flight", Unit::Count),
            y: ("bytes a second", Unit::RateFromZero),
            lines: lines(Sweep::Depth, |at| at.depth as f64),
        },
        Chart {
            title: "Throughput by channels",
            note: format!(
                "All channels together, transfers of {}; one thread serves them. {BARS}",
                size(Sweep::Channels)
            ),
            x: ("channels of each direction", Unit::Count),
            y: ("bytes a second", Unit::RateFromZero),
            lines: lines(Sweep::Channels, |at| at.channels as f64),
        },
        Chart {
            title: "Processor time",
            note: "Of the thread that submits and waits, while throughput by size is measured.".into(),
            x: SIZE,
            y: ("of a processor", Unit::Share),
            lines: [Way::H2C, Way::C2H].map(cpu).into(),
        },
    ]
}

/// Of two results.
pub fn comparison(rows: &[Row], before: &Results, after: &Results) -> Vec<Chart> {
    let ratio = |of: Option<Sweep>, title, note: &str| {
        let of_way = |way| {
            let mut points: Vec<_> = rows
                .iter()
                .filter(|row| row.throughput_by == of && row.direction == way)
                .map(|row| Point { x: row.bytes as f64, y: row.ratio, range: Some(row.between) })
                .collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            line(name(way), colour(way), points)
        };
        let (x, y) = (SIZE, ("after / before", Unit::Ratio));
        Chart { title, note: note.into(), x, y, lines: [Way::H2C, Way::C2H].map(of_way).into() }
    };
    let both = |of: &dyn Fn(&Results, Way) -> Vec<Point>, marks| {
        let pair = |way| {
            [(before, "before", true), (after, "after", false)].map(|(results, when, dashed)| Line {
                dashed,
                marks,
                ..line(format!("{}, {when}", name(way)), colour(way), of(results, way))
            })
        };
        [Way::H2C, Way::C2H].into_iter().flat_map(pair).collect::<Vec<_>>()
    };
    let by_size = |results: &Results, way| {
        let point = |at: &Throughput| Point {
            x: at.bytes as f64,
            y: at.bytes_per_second,
            range: Some(range(&at.rounds)),
        };
        results.sweep(Sweep::Size, way).map(point).collect()
    };
    let smallest = before
        .latency
        .iter()
        .map(|of| of.bytes)
        .filter(|bytes| after.latency.iter().any(|of| of.bytes == *bytes))
        .min();
    let cdf = |results: &Results, way| {
        let of = results.latency_of(way).find(|of| Some(of.bytes) == smallest);
        of.map_or(vec![], |of| curve(&of.total).collect())
    };
    let noise = "Bars go as far as the rounds lay apart: one that crosses × 1 is no difference.";
    vec![
        Chart {
            title: "Throughput by size",
            note: format!("One channel. {BARS}"),
            x: SIZE,
            y: ("bytes a second", Unit::Rate),
            lines: both(&by_size, true),
        },
        ratio(Some(Sweep::Size), "Throughput, after by before", &format!("More is better. {noise}")),
        Chart {
            title: "Latency of the smallest transfer",
            note: smallest.map_or(String::new(), |size| format!("{}, all of it.", bytes(size))),
            x: PERCENTILE,
            y: TIME,
            lines: both(&cdf, false),
        },
        ratio(None, "Median latency, after by before", &format!("Less is better. {noise}")),
    ]
}

/// A curve for each size; of many, some that are spread evenly.
fn spread(all: &[&Latency]) -> Vec<Line> {
    let (most, count) = (ORDERED.len(), all.len());
    let shown = count.min(most);
    let at = |place: usize, of: usize| if shown > 1 { place * (of - 1) / (shown - 1) } else { 0 };
    (0..shown)
        .map(|place| {
            let latency = all[at(place, count)];
            let colour = ORDERED[at(place, most)];
            let points = curve(&latency.total).collect();
            Line { name: bytes(latency.bytes), colour, dashed: false, marks: false, points }
        })
        .collect()
}

fn curve(times: &Times) -> impl Iterator<Item = Point> {
    times.curve.iter().map(|&(percentile, time)| Point { x: percentile, y: time as f64, range: None })
}

fn line(name: String, colour: RGBColor, points: impl IntoIterator<Item = Point>) -> Line {
    Line { name, colour, dashed: false, marks: true, points: points.into_iter().collect() }
}

fn colour(way: Way) -> RGBColor {
    match way {
        Way::H2C => KINDS[0],
        Way::C2H => KINDS[1],
        Way::Both => KINDS[2],
    }
}

fn name(way: Way) -> String {
    match way {
        Way::H2C => "to the card (H2C)".into(),
        Way::C2H => "from the card (C2H)".into(),
        Way::Both => "both at once".into(),
    }
}
