//! Plots of the FIFOs' fill levels over time.

use crate::host::{self, Data, RunConfig, Sample};
use crate::report::{BLUE, GRID, INK, ORANGE, text};
use crate::{Core, FeedMode};
use anyhow::Result;
use std::fmt::Write;

/// Depth of the FIFOs.
const DEPTH: u16 = 1024;
/// The area of a plot: left, right, top and bottom, in pixels.
const AREA: (f64, f64, f64, f64) = (70.0, 760.0, 12.0, 180.0);

/// Simulates three runs, and draws the levels of their FIFOs and the times when the core waits.
pub fn plots(page: &mut String, data: &Data) -> Result<()> {
    if data.has_sum() {
        // The real core has a rate of its own.
        return Ok(());
    }
    writeln!(
        page,
        "<h2>The FIFOs over time</h2>\n<p class=\"soft\">Simulated, with a latency of 30 µs: the beginning of three runs.</p>\n<div class=\"plots\">"
    )?;
    for (mode, chunk) in [(FeedMode::Chunked, 1024), (FeedMode::Chunked, 512), (FeedMode::Program, 512)] {
        let config = RunConfig {
            mode,
            chunk,
            depth: DEPTH.into(),
            latency_us: 30.0,
            jitter: 0.0,
            core: Core::Stub,
            core_cycles: 16,
            aligned: true,
        };
        let mut samples = vec![];
        let run = host::run(&config, data, &mut |sample| samples.push(sample))?;
        // The first sixth shows the pattern.
        samples.truncate(samples.len() / 6);
        writeln!(
            page,
            "<figure>\n<figcaption><h3>{}, chunk of {chunk} pairs</h3><p>The core waits where the background is red: {:.1} % of the time \
             after the first pair.</p></figcaption>\n<svg viewBox=\"0 0 860 230\">",
            mode.name(),
            100.0 * run.core_idle
        )?;
        plot(page, &samples)?;
        writeln!(page, "</svg>\n</figure>")?;
    }
    Ok(writeln!(page, "</div>")?)
}

fn plot(page: &mut String, samples: &[Sample]) -> Result<()> {
    let (left, right, top, bottom) = AREA;
    let last = samples.last().map_or(1, |sample| sample.cycle).max(1) as f64;
    let across = |cycle: f64| left + (right - left) * cycle / last;
    let up = |level: f64| bottom - (bottom - top) * level / f64::from(DEPTH);
    for level in [0, DEPTH / 2, DEPTH] {
        let y = up(level.into());
        writeln!(page, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"{GRID}\"/>")?;
        text(page, left - 6.0, y + 5.0, "end", INK, &level.to_string())?;
    }
    let microseconds = last / 250.0;
    let step = [5.0, 10.0, 20.0, 50.0].into_iter().find(|step| microseconds / step <= 6.0).unwrap_or(100.0);
    for mark in (0..).map(|at| f64::from(at) * step).take_while(|mark| *mark <= microseconds) {
        text(page, across(mark * 250.0), bottom + 18.0, "middle", INK, &format!("{mark:.0}"))?;
    }
    text(page, (left + right) / 2.0, bottom + 38.0, "middle", INK, "time (µs)")?;
    writeln!(
        page,
        "<text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\" fill=\"{INK}\" font-size=\"14\">elements in the FIFO</text>",
        (top + bottom) / 2.0
    )?;
    for two in samples.windows(2) {
        let (from, to) = (across(two[0].cycle as f64), across(two[1].cycle as f64));
        let idle = (two[1].idle - two[0].idle) as f64 / (two[1].cycle - two[0].cycle) as f64;
        let area =
            format!("x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\"", to - from, bottom - top);
        writeln!(
            page,
            "<rect {area} shape-rendering=\"crispEdges\" style=\"fill:var(--bad);fill-opacity:{:.2}\"/>",
            0.3 * idle.min(1.0)
        )?;
    }
    type Level = fn(&Sample) -> u32;
    let levels: [(&str, &str, Level); 2] =
        [("scalars", BLUE, |sample| sample.scalars), ("points", ORANGE, |sample| sample.points)];
    let end = |level: Level| samples.last().map_or(bottom, |sample| up(level(sample).into()));
    let (scalars, points) = (end(levels[0].2), end(levels[1].2));
    // The names, at the ends of the lines, do not overlap.
    let apart = if (scalars - points).abs() < 16.0 { 8.0 } else { 0.0 };
    let upper_first = if scalars <= points { [-apart, apart] } else { [apart, -apart] };
    for ((name, colour, level), offset) in levels.into_iter().zip(upper_first) {
        let at =
            |sample: &Sample| format!("{:.1},{:.1}", across(sample.cycle as f64), up(level(sample).into()));
        let line: Vec<String> = samples.iter().map(at).collect();
        writeln!(
            page,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            line.join(" ")
        )?;
        text(page, right + 8.0, end(level) + 5.0 + offset, "start", colour, name)?;
    }
    Ok(())
}
