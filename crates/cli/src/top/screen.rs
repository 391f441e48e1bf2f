//! Drawing of the statistics on a terminal, and as plain text.

use super::WatchedCard;
use super::columns::{CHANNEL, Column, SUMMARY, fitting, heads, values};
use super::rates::{ChannelRates, MsmRates};
use crate::number::short;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Sparkline};

/// Width of the name of a channel.
const NAME: usize = 7;
/// Space for the name of a card in the summary.
const CARD: usize = 16;
/// Smallest width of a sparkline: that of its head.
const SPARKLINE: usize = "  recent p50".len();

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
        _ => format!("q: quit, arrows: scroll, {above} lines above, {below} below"),
    };
    frame.render_widget(Line::from(keys).dim(), foot);
    first
}

fn draw_row(frame: &mut Frame, row: &Row, at: Rect) {
    match row {
        Row::SummaryHeader => {
            frame.render_widget(Line::from(summary_head(&summary_columns(at.width))).dim(), at);
        }
        Row::Summary(card) => {
            let line = Line::from(summary_text(&summary_columns(at.width), card));
            frame.render_widget(
                if card.ended || card.rates.errors() > 0 { line.fg(Color::Red) } else { line },
                at,
            );
        }
        Row::Title(card) => {
            let title = Line::from(card.title()).bold();
            frame.render_widget(if card.ended { title.fg(Color::Red) } else { title }, at);
        }
        Row::Header => {
            let columns = channel_columns(at.width);
            let recent = if has_sparkline(&columns, at.width) { "  recent p50" } else { "" };
            frame.render_widget(Line::from(channel_head(&columns) + recent).dim(), at);
        }
        Row::Channel(card, channel) => draw_channel(frame, card, channel, at),
        Row::Msm(msm) => frame.render_widget(Line::from(msm_text(msm)), at),
        Row::Fifo(name, filled, depth) => frame.render_widget(gauge(name, *filled, *depth), at),
        Row::Gap => {}
    }
}

fn draw_channel(frame: &mut Frame, card: &WatchedCard, channel: &ChannelRates, at: Rect) {
    let columns = channel_columns(at.width);
    let text = channel_text(&columns, channel);
    let [left, right] =
        Layout::horizontal([Constraint::Length(channel_head(&columns).len() as u16 + 2), Constraint::Min(0)])
            .areas(at);
    let style = if channel.errors > 0 { Style::new().fg(Color::Red) } else { Style::new() };
    frame.render_widget(Paragraph::new(text).style(style), left);
    let history = card.history.iter().find(|(name, _)| *name == channel.name);
    if let Some((_, times)) = history.filter(|_| has_sparkline(&columns, at.width)) {
        frame.render_widget(Sparkline::default().data(times.iter().copied()).fg(Color::Cyan), right);
    }
}

fn channel_columns(width: u16) -> Vec<&'static Column<ChannelRates>> {
    fitting(&CHANNEL, usize::from(width).saturating_sub(NAME))
}

fn channel_head(columns: &[&Column<ChannelRates>]) -> String {
    format!("{:NAME$}{}", "channel", heads(columns))
}

fn channel_text(columns: &[&Column<ChannelRates>], channel: &ChannelRates) -> String {
    format!("{:NAME$}{}", channel.name, values(columns, channel))
}

fn has_sparkline(columns: &[&Column<ChannelRates>], width: u16) -> bool {
    channel_head(columns).len() + SPARKLINE <= usize::from(width)
}

fn summary_columns(width: u16) -> Vec<&'static Column<WatchedCard>> {
    fitting(&SUMMARY, usize::from(width).saturating_sub(CARD))
}

fn summary_head(columns: &[&Column<WatchedCard>]) -> String {
    heads(columns) + " card"
}

fn summary_text(columns: &[&Column<WatchedCard>], card: &WatchedCard) -> String {
    format!("{} {}", values(columns, card), card.title())
}

fn gauge(name: &str, filled: u64, depth: u64) -> Gauge<'static> {
    let ratio = filled as f64 / depth.max(1) as f64;
    Gauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(format!("{name} FIFO: {filled} of {depth}"))
        .gauge_style(Color::Blue)
}

fn msm_text(msm: &MsmRates) -> String {
    let idle = msm.idle.map_or("unknown".into(), |idle| format!("{:.1} %", idle * 100.0));
    let (jobs, pairs) = (short(msm.jobs_per_second), short(msm.pairs_per_second));
    // The most important values come first, for narrow terminals.
    format!("MSM: {jobs} jobs/s, core idle: {idle}, {pairs} pairs/s, {} queued", msm.in_flight)
}

/// Formats all cards as plain text.
pub fn text(cards: &[WatchedCard]) -> String {
    let mut lines = vec![];
    if cards.len() > 1 {
        let columns = summary_columns(u16::MAX);
        lines.push(summary_head(&columns));
        lines.extend(cards.iter().map(|card| summary_text(&columns, card)));
        lines.push(String::new());
    }
    let columns = channel_columns(u16::MAX);
    for card in cards {
        lines.extend([card.title(), channel_head(&columns)]);
        lines.extend(card.rates.channels.iter().map(|channel| channel_text(&columns, channel)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};
    use std::time::Duration;
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
        assert!(!text(&cards[..1]).contains("MSMs/s"), "one card needs no summary");
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

    /// At 50 columns, each line ends with a whole column.
    #[test]
    fn a_narrow_terminal_shows_whole_columns() {
        let (seen, _) = drawn(50, 20, 0);
        let head = seen.lines().find(|line| line.contains("channel")).unwrap();
        assert!(head.contains("channel  bytes/s    jobs/s      p50 stalls errors"), "{seen}");
        let cards = [watched(), watched()];
        let (seen, _) = draw_on(50, 20, &cards, 0);
        assert!(seen.contains("    MSMs/s   core idle errors card"), "{seen}");
        let (seen, _) = draw_on(50, 3, &cards, 0);
        assert!(seen.contains("0 lines above, 9 below"), "{seen}");
    }
}
