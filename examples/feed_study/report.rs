//! The report: a self-contained HTML page with SVG plots.

use crate::host::{self, Data, Run, RunConfig, Sample};
use crate::{Core, FeedMode};
use anyhow::Result;
use std::fmt::Write;

/// The article's measurements for 2^20 pairs, in milliseconds.
const ARTICLE: [(&str, f64); 4] = [
    ("chunk 1,024, FIFO 1K, interrupts", 198.49),
    ("polling", 165.1),
    ("smaller chunks", 139.54),
    ("FIFOs of 4K", 124.09),
];
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
    svg{width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#222}h2{margin-top:2.5rem}.note{color:#666}";

/// Returns the report.
pub fn html(runs: &[Run], data: &Data) -> Result<String> {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Feeding the MSM design</title><style>{STYLE}</style>\n\
         <h1>Feeding the MSM design</h1>\n<p>{} pairs per run. The design's RTL is simulated cycle by cycle. The host is a \
         model that starts each transfer one latency after the previous one has ended. Only the bars of the article were measured \
         on hardware.</p>\n",
        data.pairs
    );
    bars(&mut page, runs)?;
    heat_maps(&mut page, runs)?;
    fill_levels(&mut page, data)?;
    page.push_str("</html>\n");
    Ok(page)
}

fn milliseconds(run: &Run) -> f64 {
    run.cycles as f64 / run.pairs as f64 * f64::from(1 << 20) / 250e3
}

fn bars(page: &mut String, runs: &[Run]) -> Result<()> {
    let mut bars: Vec<(String, f64, &str)> = vec![];
    bars.extend(ARTICLE.iter().map(|(what, ms)| (format!("article: {what}"), *ms, "#b9b3a8")));
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
            (format!("simulated: {}, chunk {chunk}, FIFO {depth}", mode.name()), milliseconds(run), "#3b6ea5")
        }));
    }
    writeln!(page, "<h2>2^20 pairs</h2>")?;
    writeln!(page, "<svg viewBox=\"0 0 860 {}\">", bars.len() * 26 + 6)?;
    for (row, (what, ms, colour)) in bars.iter().enumerate() {
        let y = row * 26;
        writeln!(page, "<text x=\"310\" y=\"{}\" text-anchor=\"end\">{what}</text>", y + 17)?;
        writeln!(
            page,
            "<rect x=\"320\" y=\"{}\" width=\"{:.1}\" height=\"18\" fill=\"{colour}\"/>",
            y + 4,
            ms * 2.3
        )?;
        writeln!(page, "<text x=\"{:.1}\" y=\"{}\">{ms:.1} ms</text>", 326.0 + ms * 2.3, y + 17)?;
    }
    writeln!(
        page,
        "</svg><p class=\"note\">The article's figures were measured on a host that, as was found later, was loaded by runaway \
         processes, with a core of unknown rate. The simulated figures are the time from the first pair to the last, at 250 MHz, with \
         a latency of 30 microseconds per transfer.</p>"
    )?;
    Ok(())
}

/// Draws a heat map of chunk and depth for each mode and latency.
fn heat_maps(page: &mut String, runs: &[Run]) -> Result<()> {
    writeln!(page, "<h2>How long the core waits</h2>")?;
    for mode in [FeedMode::Chunked, FeedMode::TwoChannel, FeedMode::Program] {
        let of_mode: Vec<&Run> = runs.iter().filter(|run| run.config.mode == mode).collect();
        let latencies = distinct(of_mode.iter().map(|run| run.config.latency_us));
        let depths = distinct(of_mode.iter().map(|run| run.config.depth as f64));
        let chunks = distinct(of_mode.iter().map(|run| run.config.chunk as f64));
        if of_mode.is_empty() {
            continue;
        }
        writeln!(page, "<h3>{}</h3>", mode.name())?;
        let height = (depths.len() * 24 + 20) * latencies.len() + 24;
        writeln!(page, "<svg viewBox=\"0 0 860 {height}\">")?;
        for (column, chunk) in chunks.iter().enumerate() {
            let x = 190 + column * 104;
            writeln!(page, "<text x=\"{}\" y=\"14\" text-anchor=\"middle\">chunk {chunk}</text>", x + 50)?;
        }
        for (group, latency) in latencies.iter().enumerate() {
            for (row, depth) in depths.iter().enumerate() {
                let y = 22 + group * (depths.len() * 24 + 20) + row * 24;
                writeln!(
                    page,
                    "<text x=\"180\" y=\"{}\" text-anchor=\"end\">{latency} µs, FIFO {depth}</text>",
                    y + 15
                )?;
                for (column, chunk) in chunks.iter().enumerate() {
                    let of = |run: &&&Run| {
                        let s = &run.config;
                        (s.latency_us, s.depth as f64, s.chunk as f64) == (*latency, *depth, *chunk)
                    };
                    if let Some(run) = of_mode.iter().find(of) {
                        cell(page, 190 + column * 104, y, run)?;
                    }
                }
            }
        }
        writeln!(page, "</svg>")?;
    }
    writeln!(
        page,
        "<p class=\"note\">Cycles per pair, and the share of the time between the first pair and the last in which the core could \
         have consumed a pair but a FIFO was empty.</p>"
    )?;
    Ok(())
}

fn cell(page: &mut String, x: usize, y: usize, run: &Run) -> Result<()> {
    let (colour, text) = if run.deadlock {
        ("#333".to_owned(), "deadlock".to_owned())
    } else {
        // A scale from white to red.
        let warmth = (run.core_idle.clamp(0.0, 1.0).sqrt() * 160.0) as u32;
        let cycles = run.cycles as f64 / run.pairs as f64;
        let colour = format!("rgb(250,{},{})", 245 - warmth, 240 - warmth);
        (colour, format!("{cycles:.2} · {:.1} %", 100.0 * run.core_idle))
    };
    writeln!(page, "<rect x=\"{x}\" y=\"{y}\" width=\"100\" height=\"21\" fill=\"{colour}\"/>")?;
    let ink = if run.deadlock { " style=\"fill:#fff\"" } else { "" };
    writeln!(page, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\"{ink}>{text}</text>", x + 50, y + 15)?;
    Ok(())
}

fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// Plots the fill levels of the FIFOs over time, and the times when the core waits, for three runs.
fn fill_levels(page: &mut String, data: &Data) -> Result<()> {
    writeln!(
        page,
        "<h2>The FIFOs over time</h2><p class=\"note\">Elements in each FIFO. The core waits where the background is red.</p>"
    )?;
    for (mode, chunk) in [(FeedMode::Chunked, 1024), (FeedMode::Chunked, 512), (FeedMode::Program, 512)] {
        let config = RunConfig {
            mode,
            chunk,
            depth: 1024,
            latency_us: 30.0,
            jitter: 0.0,
            core: Core::Stub,
            core_cycles: 16,
            aligned: true,
        };
        if data.has_sum() {
            continue;
        }
        let mut samples = vec![];
        let run = host::run(&config, data, &mut |sample| samples.push(sample))?;
        writeln!(
            page,
            "<h3>{}, chunk {chunk}, FIFO 1024, 30 µs: core idle {:.1} %</h3>",
            mode.name(),
            100.0 * run.core_idle
        )?;
        // The first sixth shows the pattern.
        samples.truncate(samples.len() / 6);
        let last = samples.last().map_or(1, |sample| sample.cycle).max(1) as f64;
        writeln!(
            page,
            "<svg viewBox=\"0 0 860 150\"><line x1=\"40\" y1=\"130\" x2=\"850\" y2=\"130\" stroke=\"#999\"/>"
        )?;
        writeln!(page, "<text x=\"34\" y=\"16\" text-anchor=\"end\">1024</text>")?;
        writeln!(page, "<text x=\"850\" y=\"146\" text-anchor=\"end\">{:.0} µs</text>", last / 250.0)?;
        let across = |cycle: u64| 40.0 + 810.0 * cycle as f64 / last;
        for two in samples.windows(2) {
            let (from, to) = (across(two[0].cycle), across(two[1].cycle));
            let idle = (two[1].idle - two[0].idle) as f64 / (two[1].cycle - two[0].cycle) as f64;
            let area = format!("x=\"{from:.1}\" y=\"12\" width=\"{:.1}\" height=\"118\"", to - from);
            writeln!(page, "<rect {area} fill=\"#d33\" fill-opacity=\"{:.2}\"/>", 0.3 * idle.min(1.0))?;
        }
        type Level = fn(&Sample) -> u32;
        let levels: [(&str, &str, Level); 2] =
            [("scalars", "#3b6ea5", |s| s.scalars), ("points", "#c2572b", |s| s.points)];
        for (column, (name, colour, level)) in levels.into_iter().enumerate() {
            let at = |sample: &Sample| {
                format!(
                    "{:.1},{:.1}",
                    across(sample.cycle),
                    130.0 - 118.0 * f64::from(level(sample)) / 1024.0
                )
            };
            let line: Vec<String> = samples.iter().map(at).collect();
            writeln!(page, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>", line.join(" "))?;
            writeln!(
                page,
                "<text x=\"{}\" y=\"146\" style=\"fill:{colour}\">{name}</text>",
                40 + 70 * column
            )?;
        }
        writeln!(page, "</svg>")?;
    }
    Ok(())
}
