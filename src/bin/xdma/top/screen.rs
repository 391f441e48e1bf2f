//! How it looks.

use super::Watched;
use super::rates::{ChannelRates, MsmRates};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Sparkline};
use std::time::Duration;

const HEADER: &str = "channel     bytes/s     jobs/s   queue       p50       p99  errors";

/// All cards, one below the other; what does not fit is cut off.
pub fn draw(frame: &mut Frame, cards: &[Watched]) {
    let height =
        |card: &Watched| 3 + card.rates.channels.len() as u16 + 3 * u16::from(card.rates.msm.is_some());
    let rows = cards
        .iter()
        .map(|card| Constraint::Length(height(card)))
        .chain([Constraint::Min(0), Constraint::Length(1)]);
    let areas = Layout::vertical(rows).split(frame.area());
    for (card, area) in cards.iter().zip(areas.iter()) {
        draw_card(frame, card, *area);
    }
    frame.render_widget(Line::from("q quits").dim(), areas[areas.len() - 1]);
}

fn draw_card(frame: &mut Frame, card: &Watched, area: Rect) {
    let lines = 2 + card.rates.channels.len() + 3 * usize::from(card.rates.msm.is_some());
    let areas = Layout::vertical(vec![Constraint::Length(1); lines]).split(area);
    let title = Line::from(card.title()).bold();
    frame.render_widget(if card.ended { title.fg(Color::Red) } else { title }, areas[0]);
    frame.render_widget(Line::from(format!("{HEADER}   p50 lately")).dim(), areas[1]);
    for (channel, row) in card.rates.channels.iter().zip(&areas[2..]) {
        let [left, right] =
            Layout::horizontal([Constraint::Length(HEADER.len() as u16 + 3), Constraint::Min(0)]).areas(*row);
        let style = if channel.errors > 0 { Style::new().fg(Color::Red) } else { Style::new() };
        frame.render_widget(Paragraph::new(row_text(channel)).style(style), left);
        if let Some((_, times)) = card.history.iter().find(|(name, _)| *name == channel.name) {
            frame.render_widget(Sparkline::default().data(times.iter().copied()).fg(Color::Cyan), right);
        }
    }
    if let Some(msm) = &card.rates.msm {
        let at = 2 + card.rates.channels.len();
        frame.render_widget(Line::from(msm_text(msm)), areas[at]);
        for (which, name) in ["scalars", "points"].into_iter().enumerate() {
            frame.render_widget(gauge(name, msm.filled[which], msm.depths[which]), areas[at + 1 + which]);
        }
    }
}

fn gauge(name: &str, filled: u64, depth: u64) -> Gauge<'static> {
    let ratio = filled as f64 / depth.max(1) as f64;
    Gauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(format!("{filled} of {depth} {name} in the FIFO"))
        .gauge_style(Color::Blue)
}

fn row_text(channel: &ChannelRates) -> String {
    let ChannelRates { name, bytes_per_second, jobs_per_second, in_flight, p50, p99, errors, .. } = channel;
    let (bytes, jobs) = (short(*bytes_per_second), short(*jobs_per_second));
    format!("{name:<7} {bytes:>11} {jobs:>10} {in_flight:>7} {:>9} {:>9} {errors:>7}", time(*p50), time(*p99))
}

fn msm_text(msm: &MsmRates) -> String {
    let idle = msm.idle.map_or("not seen".into(), |idle| format!("{:.1} %", idle * 100.0));
    let (jobs, pairs) = (short(msm.jobs_per_second), short(msm.pairs_per_second));
    format!("MSM: {jobs} jobs/s, {pairs} pairs/s, {} queued, core idle: {idle}", msm.in_flight)
}

/// All cards as plain text.
pub fn text(cards: &[Watched]) -> String {
    let mut lines = vec![];
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

/// `1234567.0` as `1.23 M`.
fn short(value: f64) -> String {
    match value {
        0.0..1e3 => format!("{value:.1}"),
        1e3..1e6 => format!("{:.2} k", value / 1e3),
        1e6..1e9 => format!("{:.2} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}

fn time(time: Option<Duration>) -> String {
    match time.map(|time| time.as_nanos() as f64) {
        None => "-".into(),
        Some(nanoseconds @ ..1e3) => format!("{nanoseconds:.0} ns"),
        Some(nanoseconds @ ..1e6) => format!("{:.1} us", nanoseconds / 1e3),
        Some(nanoseconds @ ..1e9) => format!("{:.1} ms", nanoseconds / 1e6),
        Some(nanoseconds) => format!("{:.2} s", nanoseconds / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};
    use xdma::card::{Card, Reader};
    use xdma::emulator::Profile;
    use xdma::regs::Direction;

    /// Draws a card of this process that did ten transfers, and lost none.
    fn drawn(width: u16, height: u16) -> String {
        let card = Card::emulated(Profile::F1).unwrap();
        let mut channel = card.h2c(2).unwrap();
        let location = card.report().unwrap().bus.location;
        let page = Reader::of_process(std::process::id()).unwrap().into_iter().flatten();
        let page = page.into_iter().find(|page| page.location() == location).unwrap();
        let mut watched = Watched::new(page);
        let buffer = card.allocate(4096, Direction::H2C).unwrap();
        for _ in 0..10 {
            channel.transfer(&buffer, 0..4096, 0x5000_0000, Duration::from_secs(10)).unwrap();
        }
        watched.read();
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &[watched])).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_card_is_shown_on_a_terminal_of_any_size() {
        let seen = drawn(100, 20);
        assert!(seen.contains("H2C 2") && seen.contains("bytes/s") && seen.contains("q quits"), "{seen}");
        for (width, height) in [(1, 1), (3, 2), (20, 5), (200, 3)] {
            drawn(width, height);
        }
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.0, 12.34, 1234.0, 5e6, 2.5e9].map(short),
            ["0.0", "12.3", "1.23 k", "5.00 M", "2.50 G"]
        );
        assert_eq!(time(Some(Duration::from_micros(1500))), "1.5 ms");
        assert_eq!(time(None), "-");
    }
}
