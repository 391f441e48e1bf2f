//! The report: a self-contained HTML page in the style of `xdma bench`.

use crate::FeedMode;
use crate::host::{Data, Run};
use crate::levels;
use anyhow::Result;
use std::fmt::Write;

/// The style of the pages of `xdma bench`. It has dark variants of the colours below.
const STYLE: &str = include_str!("../../crates/cli/src/bench/html/style.css");
pub const INK: &str = "#333333";
pub const GRID: &str = "#DDDDDD";
pub const BLUE: &str = "#0072B2";
pub const ORANGE: &str = "#D55E00";

/// The article's measurements for 2^20 pairs, in milliseconds.
const ARTICLE: [(&str, f64); 4] = [
    ("chunk 1,024, FIFOs of 1K, interrupts", 198.49),
    ("the same, polling", 165.1),
    ("smaller chunks", 139.54),
    ("FIFOs of 4K", 124.09),
];
/// Height of a bar with its distance to the next, and the left end of all bars, in pixels.
const ROW: usize = 26;
const LEFT: f64 = 340.0;

/// Returns the report. `command` is the command line.
pub fn html(runs: &[Run], data: &Data, command: &str) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Feeding the MSM design</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Feeding the MSM design</h1>\n\
         <p class=\"soft\">Simulated runs of {} pairs each, at 250 MHz</p>\n<p class=\"soft\"><code>{}</code></p>\n\
         <div class=\"notes\"><ul><li><strong>Nothing here was measured on a card, except the bars of the article.</strong> The design's \
         RTL is simulated cycle by cycle. The host is a model that starts each transfer one latency after the previous one has \
         ended.</li></ul></div>\n",
        data.pairs,
        command.replace('&', "&amp;").replace('<', "&lt;"),
    );
    bars(&mut page, runs)?;
    tables(&mut page, runs)?;
    levels::plots(&mut page, data)?;
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

/// Returns the time for 2^20 pairs at the rate of a run.
fn milliseconds(run: &Run) -> f64 {
    run.cycles as f64 / run.pairs as f64 * f64::from(1 << 20) / 250e3
}

/// Writes text, whose end is at `x` if `anchor` is "end".
pub fn text(page: &mut String, x: f64, y: f64, anchor: &str, colour: &str, text: &str) -> Result<()> {
    let font = "font-size=\"14\"";
    Ok(writeln!(
        page,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" {font}>{text}</text>"
    )?)
}

/// Draws the article's measurements, and the same with simulated runs.
fn bars(page: &mut String, runs: &[Run]) -> Result<()> {
    let mut bars: Vec<(String, f64, &str)> = vec![];
    bars.extend(ARTICLE.iter().map(|(what, ms)| (format!("article: {what}"), *ms, ORANGE)));
    for (mode, chunk, depth) in [
        (FeedMode::Chunked, 1024, 1024),
        (FeedMode::Chunked, 512, 1024),
        (FeedMode::Chunked, 2048, 4096),
        (FeedMode::TwoChannel, 512, 1024),
        (FeedMode::Program, 512, 1024),
    ] {
        let of = |run: &&Run| {
            let s = &run.config;
            (s.mode, s.chunk, s.depth) == (mode, chunk, depth) && s.latency_us == 30.0 && !run.deadlock
        };
        bars.extend(runs.iter().find(of).map(|run| {
            (format!("simulated: {}, chunk {chunk}, FIFOs of {depth}", mode.name()), milliseconds(run), BLUE)
        }));
    }
    let bottom = (bars.len() * ROW + 34) as f64;
    writeln!(
        page,
        "<h2>Time for 2^20 pairs</h2>\n<figure>\n<figcaption><h3>Measured by the article, and extrapolated from the simulation</h3>\
         <p>A simulated bar is the cycles a pair of a run, from the first pair to the last, times 2^20 pairs: it is extrapolated, not \
         simulated to the end, and has no time before the first pair and after the last. The latency is 30 µs a transfer. The article's \
         host was, as was found later, loaded by runaway processes, and the rate of its core is unknown.</p></figcaption>\n\
         <svg viewBox=\"0 0 1240 {:.0}\">",
        bottom + 44.0
    )?;
    for (x, colour, name) in [
        (LEFT, ORANGE, "article: measured on hardware"),
        (LEFT + 260.0, BLUE, "simulated: extrapolated to 2^20 pairs"),
    ] {
        writeln!(page, "<rect x=\"{x}\" y=\"4\" width=\"12\" height=\"12\" fill=\"{colour}\"/>")?;
        text(page, x + 18.0, 15.0, "start", INK, name)?;
    }
    let longest = bars.iter().map(|(_, ms, _)| *ms).fold(0.0, f64::max);
    let scale = 820.0 / longest;
    for mark in (0..).map(|at| f64::from(at) * 50.0).take_while(|mark| *mark <= longest) {
        let x = LEFT + mark * scale;
        writeln!(page, "<path d=\"M{x:.1} 26V{bottom:.1}\" stroke=\"{GRID}\"/>")?;
        text(page, x, bottom + 18.0, "middle", INK, &format!("{mark:.0}"))?;
    }
    text(page, LEFT + 410.0, bottom + 38.0, "middle", INK, "time for 2^20 pairs (ms)")?;
    for (row, (what, ms, colour)) in bars.iter().enumerate() {
        let (y, width) = ((row * ROW + 28) as f64, ms * scale);
        text(page, LEFT - 8.0, y + 15.0, "end", INK, what)?;
        writeln!(
            page,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"20\" fill=\"{colour}\"/>"
        )?;
        text(page, LEFT + width + 6.0, y + 15.0, "start", INK, &format!("{ms:.1}"))?;
    }
    Ok(writeln!(page, "</svg>\n</figure>")?)
}

/// Writes a table of latencies and depths by chunks for each mode.
fn tables(page: &mut String, runs: &[Run]) -> Result<()> {
    writeln!(
        page,
        "<h2>How long the core waits</h2>\n<p class=\"soft\">Simulated. Each cell has the cycles per pair, and the share of the time between \
         the first pair and the last in which the core could have consumed a pair but a FIFO was empty. The redder, the larger this \
         share. A transfer that needs more space than a FIFO has is a deadlock.</p>"
    )?;
    for mode in [FeedMode::Chunked, FeedMode::TwoChannel, FeedMode::Program] {
        let of_mode: Vec<&Run> = runs.iter().filter(|run| run.config.mode == mode).collect();
        if of_mode.is_empty() {
            continue;
        }
        let chunks = distinct(of_mode.iter().map(|run| run.config.chunk));
        let head: String = chunks.iter().map(|chunk| format!("<th>chunk of {chunk} pairs</th>")).collect();
        writeln!(
            page,
            "<h3 style=\"margin-top:1rem\">{}</h3>\n<div class=\"table\"><table>\n<thead><tr><th>latency, FIFOs</th>{head}</tr></thead>\n<tbody>",
            mode.name()
        )?;
        let mut rows: Vec<String> = vec![];
        for run in &of_mode {
            let row = name(run);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        for row in rows {
            let cells = chunks
                .iter()
                .map(|chunk| cell(of_mode.iter().find(|run| name(run) == row && run.config.chunk == *chunk)));
            writeln!(page, "<tr><td>{row}</td>{}</tr>", cells.collect::<String>())?;
        }
        writeln!(page, "</tbody></table></div>")?;
    }
    Ok(())
}

/// Returns the name of the row of a run.
fn name(run: &Run) -> String {
    let config = &run.config;
    let jitter = if config.jitter > 0.0 { format!(", jitter × {}", config.jitter) } else { String::new() };
    format!("{} µs{jitter}, {} elements, core {}", config.latency_us, config.depth, config.core_cycles)
}

fn cell(run: Option<&&Run>) -> String {
    match run {
        None => "<td></td>".into(),
        Some(run) if run.deadlock => "<td class=\"worse\">deadlock</td>".into(),
        Some(run) => {
            // The root makes small shares visible.
            let red = 45.0 * run.core_idle.clamp(0.0, 1.0).sqrt();
            let cycles = run.cycles as f64 / run.pairs as f64;
            let wrong = if run.verified { "" } else { " <span class=\"worse\">WRONG RESULT</span>" };
            format!(
                "<td style=\"background:color-mix(in srgb,var(--bad) {red:.0}%,transparent)\">{cycles:.2} · {:.1} %{wrong}</td>",
                100.0 * run.core_idle
            )
        }
    }
}

fn distinct(values: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut values: Vec<usize> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}
