//! Results as a self-contained HTML page with plots.

mod axis;
mod chart;
mod plots;

use super::compare::{Comparison, Row};
use super::machine::{self, Machine};
use super::results::{Directions, Latency, PERCENTILES, Results, Throughput};
use super::text;
use crate::file;
use crate::number::{bytes, nanoseconds, rate};
use anyhow::{Context, Result};
use chart::Chart;
use std::io::Write;
use std::path::Path;

/// Creates a page, and writes it to `path`.
pub fn write(path: &Path, page: impl FnOnce() -> Result<String>) -> Result<()> {
    let page = page().context("cannot draw the plots")?;
    file::create(path)?.write_all(page.as_bytes()).map_err(file::cannot("write", path))?;
    Ok(())
}

/// Returns the page of one result.
pub fn page(results: &Results) -> Result<String> {
    let card = &results.machine.card;
    let title = format!("Card {}", card.name);
    let kind = if card.emulated { " (emulated, not silicon)" } else { "" };
    let about = format!("{} over {}{kind}; {} s for each figure", card.identity, card.bus, results.time);
    let Machine { date, command, host, .. } = &results.machine;
    let body = [
        format!("<p class=\"soft\">{date} on {}: <code>{}</code></p>\n", escaped(host), escaped(command)),
        notes(&results.warnings, results.machine.is_noisy()),
        tiles(results),
        heading("Latency", &plots(plots::latency(results))?),
        details("All latencies", &latency_table(results)),
        heading("Throughput", &plots(plots::throughput(results))?),
        details("All throughput figures", &throughput_table(&results.throughput)),
        heading("Machine", &machine_table(&["", "value"], &[results])),
    ];
    Ok(document(&title, &about, &body.concat()))
}

/// Returns the page of a comparison.
pub fn compare(comparison: &Comparison, before: &Results, after: &Results) -> Result<String> {
    let Comparison { before: old, after: new, warnings, rows, .. } = comparison;
    let noisy = before.machine.is_noisy() || after.machine.is_noisy();
    let body = [
        notes(warnings, noisy),
        heading("Plots", &plots(plots::comparison(rows, before, after))?),
        heading("Figures", &compare_table(rows, !warnings.is_empty())),
        heading("Machines", &machine_table(&["", "before", "after"], &[before, after])),
    ];
    let about = format!("before: {old}; after: {new}. {}", comparison.summary());
    Ok(document("Comparison of two results", &about, &body.concat()))
}

fn document(title: &str, about: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>xdma bench: {title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p class=\"soft\">{about}</p>\n{body}<p class=\"soft\">xdma {version}</p>\n</body>\n</html>\n",
        title = escaped(title),
        about = escaped(about),
        style = include_str!("style.css"),
        version = env!("CARGO_PKG_VERSION"),
    )
}

fn heading(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("<h2>{title}</h2>\n{body}") }
}

/// Returns a section that the reader can expand.
fn details(title: &str, body: &str) -> String {
    format!("<details>\n<summary>{title}</summary>\n{body}</details>\n")
}

fn notes(warnings: &[String], noisy: bool) -> String {
    let verdict = noisy.then(|| format!("<li><strong>{}</strong></li>", text::NOISY));
    let all: String = verdict
        .into_iter()
        .chain(warnings.iter().map(|text| format!("<li>{}</li>", escaped(text))))
        .collect();
    if all.is_empty() { all } else { format!("<div class=\"notes\"><ul>{all}</ul></div>\n") }
}

/// Returns the most important figures, in grey if there are warnings about them.
fn tiles(results: &Results) -> String {
    let mut tiles = vec![];
    for direction in [Directions::H2C, Directions::C2H] {
        let smallest = results.latency_of(direction).min_by_key(|of| of.bytes);
        tiles.extend(smallest.and_then(|of| {
            let median = nanoseconds(of.total.at(50.0)?);
            Some((median, format!("median latency, {direction}, transfers of {}", bytes(of.bytes))))
        }));
    }
    for directions in [Directions::H2C, Directions::C2H, Directions::Both] {
        let figures = results.throughput.iter().filter(|of| of.direction == directions);
        let best = figures.max_by(|a, b| a.bytes_per_second.total_cmp(&b.bytes_per_second));
        tiles.extend(best.map(|of| {
            let name = match directions {
                Directions::Both => "both directions".into(),
                one => one.to_string(),
            };
            let channels =
                if of.channels > 1 { format!(", {} channels", of.channels) } else { String::new() };
            let text = format!("best throughput, {name}, transfers of {}{channels}", bytes(of.bytes));
            (rate(of.bytes_per_second), text)
        }));
    }
    let tile = |(value, text): (String, String)| {
        format!(
            "<div class=\"tile\"><b>{}</b><span class=\"soft\">{}</span></div>",
            escaped(&value),
            escaped(&text)
        )
    };
    let class = if results.warnings.is_empty() { "tiles" } else { "tiles doubtful" };
    format!("<div class=\"{class}\">{}</div>\n", tiles.into_iter().map(tile).collect::<String>())
}

fn plots(charts: Vec<Chart>) -> Result<String> {
    let figures = charts.iter().map(Chart::html).collect::<Result<String>>()?;
    Ok(if figures.is_empty() { figures } else { format!("<div class=\"plots\">\n{figures}</div>\n") })
}

fn latency_table(results: &Results) -> String {
    let mut head: Vec<_> = ["direction", "size", "part", "samples"].map(String::from).into();
    head.extend(PERCENTILES.map(|percentile| format!("p{percentile}")));
    head.push("max".into());
    let row = |of: &Latency| {
        [("submit", &of.submit), ("completion", &of.completion), ("total", &of.total)].map(|(part, times)| {
            let mut row =
                vec![of.direction.to_string(), bytes(of.bytes), part.into(), times.samples.to_string()];
            row.extend(times.percentiles.iter().map(|(_, time)| text::time_or_dash(*time)));
            row.push(nanoseconds(times.max));
            row.iter().map(|cell| cell_of(cell)).collect::<Vec<_>>()
        })
    };
    let rows: Vec<_> = results.latency.iter().flat_map(row).collect();
    let missing = text::missing_percentiles(&results.latency);
    let note = missing.map(|text| format!("<p class=\"soft\">{}</p>\n", escaped(&text)));
    table("", &head, &rows) + &note.unwrap_or_default()
}

fn throughput_table(all: &[Throughput]) -> String {
    let head = [
        "direction",
        "size",
        "in flight",
        "channels",
        "median",
        "lowest round",
        "highest round",
        "CPU",
        "CPU of other threads",
    ];
    let row = |of: &Throughput| {
        let (low, high) = machine::range(&of.rounds);
        let share = |value: f64| format!("{:.0} %", 100.0 * value);
        [
            of.direction.to_string(),
            bytes(of.bytes),
            of.depth.to_string(),
            of.channels.to_string(),
            rate(of.bytes_per_second),
            rate(low),
            rate(high),
            share(of.cpu),
            share(of.cpu_others),
        ]
        .iter()
        .map(|cell| cell_of(cell))
        .collect::<Vec<_>>()
    };
    table("", &head, &all.iter().map(row).collect::<Vec<_>>())
}

fn compare_table(rows: &[Row], doubtful: bool) -> String {
    let head = [
        "figure",
        "direction",
        "size",
        "in flight",
        "channels",
        "before",
        "after",
        "after / before",
        "ratio range",
        "verdict",
    ];
    let row = |row: &Row| {
        let mut cells: Vec<_> = [
            row.name().into(),
            row.direction.to_string(),
            bytes(row.bytes),
            row.depth.to_string(),
            row.channels.to_string(),
            row.value(row.before),
            row.value(row.after),
            format!("{:.2}", row.ratio),
            format!("{:.2} to {:.2}", row.between.0, row.between.1),
        ]
        .iter()
        .map(|cell| cell_of(cell))
        .collect();
        let class = row.verdict.to_string();
        let class = class.split(' ').next_back().unwrap_or_default();
        cells.push(format!("<td class=\"{class}\">{}</td>", row.verdict));
        cells
    };
    table(if doubtful { "doubtful" } else { "" }, &head, &rows.iter().map(row).collect::<Vec<_>>())
}

/// Returns a table with one column for the machine of each result.
fn machine_table(head: &[&str], results: &[&Results]) -> String {
    let columns: Vec<_> = results.iter().map(|results| results.machine.rows()).collect();
    let row = |at: usize| {
        let values = columns.iter().map(|rows| cell_of(&rows[at].1));
        [cell_of(columns[0][at].0)].into_iter().chain(values).collect::<Vec<_>>()
    };
    table("words", head, &(0..columns[0].len()).map(row).collect::<Vec<_>>())
}

fn cell_of(text: &str) -> String {
    format!("<td>{}</td>", escaped(text))
}

/// Returns a table. The cells of `rows` are HTML.
fn table(class: &str, head: &[impl AsRef<str>], rows: &[Vec<String>]) -> String {
    let head: String = head.iter().map(|name| format!("<th>{}</th>", escaped(name.as_ref()))).collect();
    let rows: String = rows.iter().map(|cells| format!("<tr>{}</tr>\n", cells.concat())).collect();
    format!(
        "<div class=\"table\"><table class=\"{class}\">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// Escapes text for HTML, including attributes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::tests::quiet;

    #[test]
    fn names_are_escaped() {
        let mut machine = quiet();
        machine.card.name = "unix:/tmp/<script>alert('\"&')</script>".into();
        let page = page(&Results::new(machine, 0.1, vec![], vec![])).unwrap();
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;&quot;&amp;&#39;)"), "{page}");
    }

    #[test]
    fn figures_that_a_warning_doubts_are_grey() {
        let mut machine = quiet();
        let of = |machine: &Machine| page(&Results::new(machine.clone(), 0.1, vec![], vec![])).unwrap();
        assert!(of(&machine).contains("<div class=\"tiles\">"));
        machine.card.emulated = true;
        assert!(of(&machine).contains("<div class=\"tiles doubtful\">"));
    }

    #[test]
    fn the_date_the_command_and_the_host_are_shown() {
        let machine = Machine { command: "xdma bench --card 'a&b'".into(), host: "fpga7".into(), ..quiet() };
        let page = page(&Results::new(machine, 0.1, vec![], vec![])).unwrap();
        assert!(page.contains("on fpga7: <code>xdma bench --card &#39;a&amp;b&#39;</code>"), "{page}");
    }

    #[test]
    fn every_plot_colour_has_a_dark_variant() {
        let style = include_str!("style.css");
        for plotters::style::RGBColor(r, g, b) in chart::CATEGORIES.into_iter().chain(chart::SEQUENCE) {
            for kind in ["stroke", "fill"] {
                assert!(
                    style.contains(&format!("[{kind}=\"#{r:02X}{g:02X}{b:02X}\"]")),
                    "{kind} {r:02X}{g:02X}{b:02X}"
                );
            }
        }
    }
}
