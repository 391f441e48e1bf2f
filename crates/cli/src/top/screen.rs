//! Drawing of the statistics on a terminal, and as plain text.

use super::WatchedCard;
use super::rates::{ChannelRates, MsmRates};
use crate::number::{nanoseconds, short};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Sparkline};
use std::time::Duration;

const HEADER: &str = "channel  bytes/s    jobs/s queue      p50      p99 stalls errors";

const SUMMARY_HEADER: &str = "    MSMs/s   pairs/s queue   core idle      H2C      C2H stalls errors card";

/// One line of the screen.
enum Row<'a> {
    SummaryHeader,
    Summary(&'a WatchedCard),
    Title(&'a WatchedCard),
    Header,
    Channel(&'a WatchedCard, &'a ChannelRates),
    Msm(&'a MsmRates),
    Fifo(&'static str, u64, u64),
    Gap,
}

fn rows(card: &WatchedCard) -> Vec<Row<'_>> {
    let mut rows = vec![Row::Title(card), Row::Header];
    rows.extend(card.rates.channels.iter().map(|channel| Row::Channel(card, channel)));
    if let Some(msm) = &card.rates.msm {
        rows.push(Row::Msm(msm));
        let fifo = |at: usize, name| Row::Fifo(name, msm.filled[at], msm.depths[at]);
        rows.extend([fifo(0, "scalar"), fifo(1, "point")]);
    }
    rows.push(Row::Gap);
    rows
}

/// Returns one row for each card, if there are several, and then the details of each.
fn all_rows(cards: &[WatchedCard]) -> Vec<Row<'_>> {
    let mut rows = vec![];
    if cards.len() > 1 {
        rows.push(Row::SummaryHeader);
        rows.extend(cards.iter().map(Row::Summary));
        rows.push(Row::Gap);
    }
    rows.extend(cards.iter().flat_map(self::rows));
    rows.pop();
    rows
}

/// Draws a summary and all cards below each other, starting at row `first`, or earlier if the last rows then leave space. Returns the first row that
/// is shown.
pub fn draw(frame: &mut Frame, cards: &[WatchedCard], first: usize) -> usize {
    let rows = all_rows(cards);
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let shown = usize::from(body.height).min(rows.len());
    let first = first.min(rows.len() - shown);
    let (above, below) = (first, rows.len() - shown - first);
    for (row, at) in rows.iter().skip(first).zip(body.rows()) {
        draw_row(frame, row, at);
    }
    let keys = match (above, below) {
        (0, 0) => "q: quit".into(),
        _ => format!("q: quit, arrow keys: scroll ({above} lines above, {below} below)"),
    };
    frame.render_widget(Line::from(keys).dim(), foot);
    first
}

fn draw_row(frame: &mut Frame, row: &Row, at: Rect) {
    match row {
        Row::SummaryHeader => frame.render_widget(Line::from(SUMMARY_HEADER).dim(), at),
        Row::Summary(card) => {
            let line = Line::from(summary_text(card));
            frame.render_widget(
                if card.ended || card.rates.errors() > 0 { line.fg(Color::Red) } else { line },
                at,
            );
        }
        Row::Title(card) => {
            let title = Line::from(card.title()).bold();
            frame.render_widget(if card.ended { title.fg(Color::Red) } else { title }, at);
        }
        Row::Header => frame.render_widget(Line::from(format!("{HEADER}  recent p50")).dim(), at),
        Row::Channel(card, channel) => draw_channel(frame, card, channel, at),
        Row::Msm(msm) => frame.render_widget(Line::from(msm_text(msm)), at),
        Row::Fifo(name, filled, depth) => frame.render_widget(gauge(name, *filled, *depth), at),
        Row::Gap => {}
    }
}

fn draw_channel(frame: &mut Frame, card: &WatchedCard, channel: &ChannelRates, at: Rect) {
    let [left, right] =
        Layout::horizontal([Constraint::Length(HEADER.len() as u16 + 2), Constraint::Min(0)]).areas(at);
    let style = if channel.errors > 0 { Style::new().fg(Color::Red) } else { Style::new() };
    frame.render_widget(Paragraph::new(row_text(channel)).style(style), left);
    if let Some((_, times)) = card.history.iter().find(|(name, _)| *name == channel.name) {
        frame.render_widget(Sparkline::default().data(times.iter().copied()).fg(Color::Cyan), right);
    }
}

fn gauge(name: &str, filled: u64, depth: u64) -> Gauge<'static> {
    let ratio = filled as f64 / depth.max(1) as f64;
    Gauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(format!("{name} FIFO: {filled} of {depth}"))
        .gauge_style(Color::Blue)
}

fn row_text(channel: &ChannelRates) -> String {
    let ChannelRates { name, bytes_per_second, jobs_per_second, in_flight, stalls, errors, .. } = channel;
    let (bytes, jobs) = (short(*bytes_per_second), short(*jobs_per_second));
    let (p50, p99) = (time(channel.p50), time(channel.p99));
    format!("{name:<6} {bytes:>9} {jobs:>9} {in_flight:>5} {p50:>8} {p99:>8} {stalls:>6} {errors:>6}")
}

/// Formats a card as one row, in the columns of [`SUMMARY_HEADER`].
fn summary_text(card: &WatchedCard) -> String {
    let rates = &card.rates;
    let rate = |value: Option<f64>| value.map_or_else(|| "-".into(), short);
    let msm = rates.msm.as_ref();
    let [jobs, pairs] = [msm.map(|msm| msm.jobs_per_second), msm.map(|msm| msm.pairs_per_second)].map(rate);
    let queued = msm.map_or_else(|| "-".into(), |msm| msm.in_flight.to_string());
    let idle =
        msm.and_then(|msm| msm.idle).map_or_else(|| "-".into(), |idle| format!("{:.1} %", idle * 100.0));
    let [h2c, c2h] = ["H2C", "C2H"].map(|direction| short(rates.bytes_per_second(direction)));
    let (stalls, errors) = (rates.stalls(), rates.errors());
    format!(
        "{jobs:>10} {pairs:>9} {queued:>5} {idle:>11} {h2c:>8} {c2h:>8} {stalls:>6} {errors:>6} {}",
        card.title()
    )
}

fn msm_text(msm: &MsmRates) -> String {
    let idle = msm.idle.map_or("unknown".into(), |idle| format!("{:.1} %", idle * 100.0));
    let (jobs, pairs) = (short(msm.jobs_per_second), short(msm.pairs_per_second));
    format!("MSM: {jobs} jobs/s, {pairs} pairs/s, {} queued, core idle: {idle}", msm.in_flight)
}

/// Formats all cards as plain text.
pub fn text(cards: &[WatchedCard]) -> String {
    let mut lines = vec![];
    if cards.len() > 1 {
        lines.push(SUMMARY_HEADER.into());
        lines.extend(cards.iter().map(summary_text));
        lines.push(String::new());
    }
    for card in cards {
        lines.extend([card.title(), HEADER.into()]);
        lines.extend(card.rates.channels.iter().map(row_text));
        if let Some(msm) = &card.rates.msm {
            let ([scalars, points], [scalar_depth, point_depth]) = (msm.filled, msm.depths);
            lines.push(msm_text(msm));
            lines.push(format!(
                "FIFOs: {scalars} of {scalar_depth} scalars, {points} of {point_depth} points"
            ));
        }
    }
    lines.join("\n")
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| nanoseconds(time.as_nanos().try_into().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};
    use xdma::card::CardOptions;
    use xdma::regs::Direction;
    use xdma::stats::Reader;
    use xdma_emulator::CardFile;

    /// Returns the statistics of a card of this process after ten successful transfers.
    fn watched() -> WatchedCard {
        let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default()).unwrap();
        let mut channel = card.h2c(2).unwrap();
        let location = card.report().unwrap().bus.location;
        let page = Reader::of_process(std::process::id()).unwrap().into_iter().flatten();
        let page = page.into_iter().find(|page| page.location() == location).unwrap();
        let mut watched = WatchedCard::new(page);
        let buffer = card.allocate(4096, Direction::H2C).unwrap();
        for _ in 0..10 {
            channel.transfer(&buffer, 0..4096, 0x5000_0000, Duration::from_secs(10)).unwrap();
        }
        watched.update();
        watched
    }

    /// Draws a card. Returns the screen and the first row shown.
    fn drawn(width: u16, height: u16, first: usize) -> (String, usize) {
        draw_on(width, height, &[watched()], first)
    }

    fn draw_on(width: u16, height: u16, cards: &[WatchedCard], first: usize) -> (String, usize) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut shown = 0;
        terminal.draw(|frame| shown = draw(frame, cards, first)).unwrap();
        (terminal.backend().to_string(), shown)
    }

    #[test]
    fn several_cards_have_one_row_each() {
        let cards = [watched(), watched(), watched()];
        let seen = [draw_on(160, 30, &cards, 0).0, text(&cards)];
        for seen in &seen {
            let header = seen.lines().position(|line| line.contains("pairs/s queue")).unwrap();
            let summary: Vec<_> = seen.lines().skip(header + 1).take(3).collect();
            for (line, card) in summary.iter().zip(&cards) {
                assert!(line.contains(&card.title()) && line.contains(" 0 "), "{seen}");
            }
        }
        assert!(!text(&cards[..1]).contains(SUMMARY_HEADER), "one card needs no summary");
    }

    #[test]
    fn a_card_is_shown_on_a_terminal_of_any_size() {
        let (seen, _) = drawn(80, 20, 5);
        assert!(seen.contains("H2C 2") && seen.contains("bytes/s") && seen.contains("q: quit"), "{seen}");
        assert!(!seen.contains("above"), "everything is shown: {seen}");
        for (width, height) in [(1, 1), (3, 2), (20, 5), (200, 3)] {
            drawn(width, height, 1);
        }
    }

    #[test]
    fn hidden_rows_are_counted_and_can_be_reached() {
        let (seen, first) = drawn(80, 2, 0);
        assert!(first == 0 && seen.contains("process") && seen.contains("0 lines above, 2 below"), "{seen}");
        let (seen, first) = drawn(80, 2, 99);
        assert!(first == 2 && seen.contains("H2C 2") && seen.contains("2 lines above, 0 below"), "{seen}");
    }

    #[test]
    fn a_time_may_be_missing() {
        assert_eq!(time(Some(Duration::from_micros(1500))), "1.50 ms");
        assert_eq!(time(None), "-");
    }
}
