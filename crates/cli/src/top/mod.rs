//! The command `xdma top`: shows the statistics pages of running programs.

mod columns;
mod rates;
mod screen;

use crate::number::seconds;
use crate::{failure::Failure, output};
use anyhow::{Context, Result};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use rates::{Rates, Sample};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdma::card::PciAddress;
use xdma::stats::{PageError, Reader};

/// Number of samples that a sparkline shows.
const HISTORY: usize = 60;
/// Longest wait for a key press.
const KEY_WAIT: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Top {
    /// Show only the cards of this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Show only cards whose location contains this text: a PCI address, or part of a socket path.
    #[arg(long, value_name = "TEXT")]
    card: Option<String>,
    /// Time between two samples.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print one sample as text, and exit; --json does the same as JSON.
    #[arg(long)]
    once: bool,
}

/// A card of a running program.
pub struct WatchedCard {
    page: Reader,
    last: Sample,
    pub rates: Rates,
    /// The last median latencies of each channel, in nanoseconds.
    pub history: Vec<(String, VecDeque<u64>)>,
    /// Whether the program has ended.
    pub ended: bool,
}

impl WatchedCard {
    fn new(page: Reader) -> Self {
        let last = Sample::new(&page);
        let rates = Rates::between(&last, &last);
        Self { page, last, rates, history: vec![], ended: false }
    }

    pub fn title(&self) -> String {
        let ended = if self.ended { ", ended: last values" } else { "" };
        let emulated = if self.is_emulated() { "emulated, " } else { "" };
        format!("{} ({emulated}process {}{ended})", self.page.location(), self.page.process())
    }

    /// Returns whether the card is emulated, and so reached through a socket.
    fn is_emulated(&self) -> bool {
        self.page.location().parse::<PciAddress>().is_err()
    }

    /// Takes the next sample. When the process ends, the last values stay.
    fn update(&mut self) {
        if self.ended {
            return;
        }
        self.ended = !self.page.is_open();
        let now = Sample::new(&self.page);
        self.rates = Rates::between(&self.last, &now);
        self.last = now;
        for channel in &self.rates.channels {
            let at = self.history.iter().position(|(name, _)| *name == channel.name).unwrap_or_else(|| {
                self.history.push((channel.name.clone(), VecDeque::new()));
                self.history.len() - 1
            });
            let times = &mut self.history[at].1;
            times.push_back(channel.p50.map_or(0, |time| time.as_nanos() as u64));
            if times.len() > HISTORY {
                times.pop_front();
            }
        }
    }
}

impl Top {
    pub fn run(&self, json: bool) -> Result<()> {
        let mut cards = self.find()?;
        if self.once || json {
            std::thread::sleep(self.interval);
            cards.iter_mut().for_each(WatchedCard::update);
            return output::line(&if json { object(&cards) } else { screen::text(&cards) });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let signal = stop.clone();
        ctrlc::set_handler(move || {
            signal.store(true, Ordering::Relaxed);
            // If the terminal is gone, the wait for a key never returns.
            std::thread::sleep(10 * KEY_WAIT);
            std::process::exit(0);
        })?;
        // This also installs a panic hook that restores the terminal.
        let terminal = ratatui::try_init();
        let mut terminal =
            terminal.context("cannot draw on the terminal; use --once to print one sample as text")?;
        let shown = self.show(&mut terminal, &mut cards, &stop);
        ratatui::restore();
        shown
    }

    fn show(
        &self,
        terminal: &mut ratatui::DefaultTerminal,
        cards: &mut Vec<WatchedCard>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let (mut due, mut first) = (Instant::now() + self.interval, 0);
        while !stop.load(Ordering::Relaxed) {
            terminal.draw(|frame| first = screen::draw(frame, cards, first))?;
            let now = Instant::now();
            if event::poll(due.saturating_duration_since(now).min(KEY_WAIT))? {
                let event = event::read()?;
                if is_quit(&event) {
                    break;
                }
                first = first.saturating_add_signed(scroll_rows(&event));
            }
            if Instant::now() >= due {
                cards.iter_mut().for_each(WatchedCard::update);
                self.add_new(cards);
                due = Instant::now() + self.interval;
            }
        }
        Ok(())
    }

    fn find(&self) -> Result<Vec<WatchedCard>> {
        let found = match self.pid {
            Some(process) => Reader::of_process(process)?,
            None => Reader::all(),
        };
        let (pages, errors): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        let errors: Vec<PageError> = errors.into_iter().filter_map(Result::err).collect();
        let pages: Vec<_> = pages.into_iter().flatten().collect();
        let locations: Vec<_> = pages.iter().map(|page| page.location().to_owned()).collect();
        let cards: Vec<_> =
            pages.into_iter().filter(|page| self.matches(page)).map(WatchedCard::new).collect();
        if !cards.is_empty() {
            errors.iter().for_each(|error| tracing::warn!("{error}"));
            return Ok(cards);
        }
        match (errors.into_iter().next(), &self.card) {
            (Some(error), _) => Err(error.into()),
            (None, Some(part)) if !locations.is_empty() => {
                Err(Failure::NotInUse(part.clone(), locations.join(", ")).into())
            }
            (None, _) => Err(Failure::NoPrograms.into()),
        }
    }

    fn matches(&self, page: &Reader) -> bool {
        self.card.as_ref().is_none_or(|part| page.location().contains(part))
    }

    /// Adds the cards of newly started programs. If there are any, the cards of ended programs are removed.
    fn add_new(&self, cards: &mut Vec<WatchedCard>) {
        let known = |page: &Reader, cards: &[WatchedCard]| cards.iter().any(|card| card.page.is_same(page));
        let Ok(found) = self.find() else { return };
        let new: Vec<_> = found.into_iter().filter(|card| !known(&card.page, cards)).collect();
        if !new.is_empty() {
            cards.retain(|card| !card.ended);
            cards.extend(new);
        }
    }
}

fn is_quit(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || control && key.code == KeyCode::Char('c')
}

/// Returns the number of rows by which a key scrolls down.
fn scroll_rows(event: &Event) -> isize {
    match event {
        Event::Key(key) if key.code == KeyCode::Down => 1,
        Event::Key(key) if key.code == KeyCode::Up => -1,
        Event::Key(key) if key.code == KeyCode::PageDown => 10,
        Event::Key(key) if key.code == KeyCode::PageUp => -10,
        _ => 0,
    }
}

fn object(cards: &[WatchedCard]) -> String {
    let card = |card: &WatchedCard| {
        let mut object = card.rates.object();
        object["location"] = card.page.location().into();
        object["emulated"] = card.is_emulated().into();
        object["process"] = card.page.process().into();
        object["ended"] = card.ended.into();
        object
    };
    json!({ "cards": cards.iter().map(card).collect::<Vec<_>>() }).to_string()
}
