//! The plots of a page.

use super::axis::Unit;
use super::chart::{CATEGORIES, Chart, Line, Point, SEQUENCE};
use crate::bench::compare::Row;
use crate::bench::machine::range;
use crate::bench::results::{Directions, Latency, Results, Sweep, Throughput, Times};
use crate::number::{bytes, rate};
use plotters::style::RGBColor;

const PERCENTILE: (&str, Unit) = ("percentile", Unit::Percentile);
const SIZE: (&str, Unit) = ("transfer size", Unit::Bytes);
const TIME: (&str, Unit) = ("latency", Unit::Time);
const ALL_DIRECTIONS: [Directions; 3] = [Directions::H2C, Directions::C2H, Directions::Both];
/// Explanation of the bars at each point.
const BARS: &str = "Bars span the slowest to the fastest round.";

/// Returns the plots of the latencies.
pub fn latency(results: &Results) -> Vec<Chart> {
    let cdf = |directions, title| {
        Chart {
        title,
        note: "Time from the call that submits the transfer until its completion is seen. Each line ends where there are too few samples."
            .into(),
        x: PERCENTILE,
        y: TIME,
        lines: curves(&results.latency_of(directions).collect::<Vec<_>>()),
        limit: None,
        also: results.latency.iter().flat_map(|of| &of.total.curve).map(|&(at, time)| (at, time as f64)).collect(),
    }
    };
    let parts = |directions, title| {
        let part = |name: &str, colour, of: fn(&Latency) -> &Times| {
            let points = results.latency_of(directions).filter_map(|at| {
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
                "Medians. Submission is the call that submits the transfer; completion is the time from there until the completion is \
                 seen. {BARS}"
            ),
            x: SIZE,
            y: TIME,
            lines: vec![
                part("submission", CATEGORIES[2], |of| &of.submit),
                part("completion", CATEGORIES[3], |of| &of.completion),
            ],
            limit: None,
            also: results
                .latency
                .iter()
                .flat_map(|of| [(of.bytes, &of.submit), (of.bytes, &of.completion)])
                .flat_map(|(bytes, times)| times.rounds.iter().map(move |time| (bytes as f64, *time)))
                .collect(),
        }
    };
    vec![
        cdf(Directions::H2C, "Latency to the card (H2C), by size"),
        cdf(Directions::C2H, "Latency from the card (C2H), by size"),
        parts(Directions::H2C, "Latency to the card (H2C), by part"),
        parts(Directions::C2H, "Latency from the card (C2H), by part"),
    ]
}

/// Returns the plots of the throughput.
pub fn throughput(results: &Results) -> Vec<Chart> {
    let lines = |sweep, x: fn(&Throughput) -> f64| {
        let of = |directions| {
            let points = results.sweep(sweep, directions).map(|at| Point {
                x: x(at),
                y: at.bytes_per_second,
                range: Some(range(&at.rounds)),
            });
            line(name(directions), colour(directions), points)
        };
        ALL_DIRECTIONS.map(of).into_iter().filter(|line| !line.points.is_empty()).collect::<Vec<_>>()
    };
    let fixed = |sweep| results.throughput.iter().find(|of| of.sweep == sweep);
    let depth = fixed(Sweep::Size).map_or(0, |of| of.depth);
    let cpu = |directions| {
        let points = results.sweep(Sweep::Size, directions).map(|at| Point {
            x: at.bytes as f64,
            y: at.cpu,
            range: None,
        });
        line(name(directions), colour(directions), points)
    };
    let limit = || link_limit(results);
    let size = |sweep| fixed(sweep).map_or(String::new(), |of| bytes(of.bytes));
    vec![
        Chart {
            title: "Throughput by size",
            note: format!("One channel, {depth} transfers in flight (fewer of the largest). {BARS}{}", limit_note(results)),
            x: SIZE,
            y: ("throughput", Unit::Rate),
            lines: lines(Sweep::Size, |at| at.bytes as f64),
            limit: limit(),
            also: vec![],
        },
        Chart {
            title: "Throughput by transfers in flight",
            note: format!("One channel, transfers of {}. {BARS}{}", size(Sweep::Depth), limit_note(results)),
            x: ("transfers in flight", Unit::Count),
            y: ("throughput", Unit::Rate),
            lines: lines(Sweep::Depth, |at| at.depth as f64),
            limit: limit(),
            also: vec![],
        },
        Chart {
            title: "Throughput by channels",
            note: format!(
                "Sum over all channels, transfers of {}, one thread. {BARS}{}",
                size(Sweep::Channels),
                limit_note(results)
            ),
            x: ("channels of each direction", Unit::Count),
            y: ("throughput", Unit::RateFromZero),
            lines: lines(Sweep::Channels, |at| at.channels as f64),
            limit: limit(),
            also: vec![],
        },
        Chart {
            title: "Processor time",
            note: "Processor time of the thread that submits and waits, during the measurement of throughput by size.".into(),
            x: SIZE,
            y: ("share of one processor", Unit::Share),
            lines: [Directions::H2C, Directions::C2H].map(cpu).into(),
            limit: None,
            also: vec![],
        },
    ]
}

/// Returns the limit that the card's link sets in each direction.
fn link_limit(results: &Results) -> Option<f64> {
    results.machine.card.link?.bytes_per_second()
}

/// Returns a sentence that explains the limit, or nothing if there is none.
fn limit_note(results: &Results) -> String {
    let link = results.machine.card.link.map(|link| link.name());
    link.zip(link_limit(results)).map_or(String::new(), |(link, limit)| {
        format!(" The limit is the speed of the link, {link}, in each direction: {}.", rate(limit))
    })
}

/// Returns the plots of a comparison.
pub fn comparison(rows: &[Row], before: &Results, after: &Results) -> Vec<Chart> {
    let ratio = |sweep: Option<Sweep>, title, note: &str| {
        let line_of = |directions| {
            let mut points: Vec<_> = rows
                .iter()
                .filter(|row| row.throughput_by == sweep && row.direction == directions)
                .map(|row| Point { x: row.bytes as f64, y: row.ratio, range: Some(row.between) })
                .collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            line(name(directions), colour(directions), points)
        };
        let (x, y) = (SIZE, ("after / before", Unit::Ratio));
        Chart {
            title,
            note: note.into(),
            x,
            y,
            lines: [Directions::H2C, Directions::C2H].map(line_of).into(),
            limit: None,
            also: vec![],
        }
    };
    let both = |of: &dyn Fn(&Results, Directions) -> Vec<Point>, marks| {
        let pair = |directions| {
            [(before, "before", true), (after, "after", false)].map(|(results, when, dashed)| Line {
                dashed,
                marks,
                ..line(format!("{}, {when}", name(directions)), colour(directions), of(results, directions))
            })
        };
        [Directions::H2C, Directions::C2H].into_iter().flat_map(pair).collect::<Vec<_>>()
    };
    let by_size = |results: &Results, directions| {
        let point = |at: &Throughput| Point {
            x: at.bytes as f64,
            y: at.bytes_per_second,
            range: Some(range(&at.rounds)),
        };
        results.sweep(Sweep::Size, directions).map(point).collect()
    };
    let smallest = before
        .latency
        .iter()
        .map(|of| of.bytes)
        .filter(|bytes| after.latency.iter().any(|of| of.bytes == *bytes))
        .min();
    let cdf = |results: &Results, directions| {
        let of = results.latency_of(directions).find(|of| Some(of.bytes) == smallest);
        of.map_or(vec![], |of| curve(&of.total).collect())
    };
    let noise =
        "Bars span the ratios of the rounds. If a bar crosses × 1, there is no significant difference.";
    vec![
        Chart {
            title: "Throughput by size",
            note: format!("One channel. {BARS}{}", limit_note(after)),
            x: SIZE,
            y: ("throughput", Unit::Rate),
            lines: both(&by_size, true),
            limit: link_limit(after),
            also: vec![],
        },
        ratio(Some(Sweep::Size), "Throughput, after / before", &format!("Higher is better. {noise}")),
        Chart {
            title: "Latency of the smallest transfer",
            note: smallest.map_or(String::new(), |size| {
                format!("Transfers of {}, from submission to completion.", bytes(size))
            }),
            x: PERCENTILE,
            y: TIME,
            lines: both(&cdf, false),
            limit: None,
            also: vec![],
        },
        ratio(None, "Median latency, after / before", &format!("Lower is better. {noise}")),
    ]
}

/// Returns a curve for each size, or for an evenly spread selection if there are too many sizes.
fn curves(all: &[&Latency]) -> Vec<Line> {
    let (max, count) = (SEQUENCE.len(), all.len());
    let shown = count.min(max);
    let at = |index: usize, of: usize| if shown > 1 { index * (of - 1) / (shown - 1) } else { 0 };
    (0..shown)
        .map(|index| {
            let latency = all[at(index, count)];
            let colour = SEQUENCE[at(index, max)];
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

fn colour(directions: Directions) -> RGBColor {
    match directions {
        Directions::H2C => CATEGORIES[0],
        Directions::C2H => CATEGORIES[1],
        Directions::Both => CATEGORIES[2],
    }
}

fn name(directions: Directions) -> String {
    match directions {
        Directions::H2C => "H2C".into(),
        Directions::C2H => "C2H".into(),
        Directions::Both => "both".into(),
    }
}
