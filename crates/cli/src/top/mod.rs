//! `xdma top`: what the cards of running programs do, from their pages of statistics.

mod rates;
mod screen;

use crate::number::seconds;
use crate::{failure::Failure, output};
use anyhow::{Context, Result};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use rates::{Rates, Reading};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xdma::stats::{PageError, Reader};

/// Rates that a sparkline remembers.
const HISTORY: usize = 60;
/// Longest wait for a key.
const KEY: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Top {
    /// Only the cards of this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Only cards whose location contains this: a PCI address, or part of a socket's path.
    #[arg(long, value_name = "TEXT")]
    card: Option<String>,
    /// Seconds between two readings.
    #[arg(long, default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print what happens in one interval, and end; so does --json.
    #[arg(long)]
    once: bool,
}

/// A card that is watched.
pub struct Watched {
    page: Reader,
    last: Reading,
    pub rates: Rates,
    /// Median latencies in nanoseconds, by channel.
    pub history: Vec<(String, VecDeque<u64>)>,
    pub ended: bool,
}

impl Watched {
    fn new(page: Reader) -> Self {
        let last = Reading::take(&page);
        let rates = Rates::between(&last, &last);
        Self { page, last, rates, history: vec![], ended: false }
    }

    pub fn title(&self) -> String {
        let ended = if self.ended { ", ended: these are its last values" } else { "" };
        format!("{} (process {}{ended})", self.page.location(), self.page.process())
    }

    /// Reads the page again. What happened is kept when its process is gone.
    fn read(&mut self) {
        if self.ended {
            return;
        }
        self.ended = !self.page.is_open();
        let now = Reading::take(&self.page);
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
            cards.iter_mut().for_each(Watched::read);
            return output::line(&if json { object(&cards) } else { screen::text(&cards) });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let signal = stop.clone();
        ctrlc::set_handler(move || {
            signal.store(true, Ordering::Relaxed);
            // Whoever waits for a key of a terminal that is gone does not come back.
            std::thread::sleep(10 * KEY);
            std::process::exit(0);
        })?;
        // A panic restores the terminal too.
        let terminal = ratatui::try_init();
        let mut terminal = terminal.context("there is no terminal to draw on; --once prints one look")?;
        let shown = self.show(&mut terminal, &mut cards, &stop);
        ratatui::restore();
        shown
    }

    fn show(
        &self,
        terminal: &mut ratatui::DefaultTerminal,
        cards: &mut Vec<Watched>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let (mut due, mut first) = (Instant::now() + self.interval, 0);
        while !stop.load(Ordering::Relaxed) {
            terminal.draw(|frame| first = screen::draw(frame, cards, first))?;
            let now = Instant::now();
            if event::poll(due.saturating_duration_since(now).min(KEY))? {
                let event = event::read()?;
                if is_end(&event) {
                    break;
                }
                first = first.saturating_add_signed(moved(&event));
            }
            if Instant::now() >= due {
                cards.iter_mut().for_each(Watched::read);
                self.add_new(cards);
                due = Instant::now() + self.interval;
            }
        }
        Ok(())
    }

    fn find(&self) -> Result<Vec<Watched>> {
        let found = match self.pid {
            Some(process) => Reader::of_process(process)?,
            None => Reader::all(),
        };
        let (good, strange): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        let strange: Vec<PageError> = strange.into_iter().filter_map(Result::err).collect();
        let good: Vec<_> = good.into_iter().flatten().collect();
        let places: Vec<_> = good.iter().map(|page| page.location().to_owned()).collect();
        let cards: Vec<_> = good.into_iter().filter(|page| self.wants(page)).map(Watched::new).collect();
        if !cards.is_empty() {
            strange.iter().for_each(|error| tracing::warn!("{error}"));
            return Ok(cards);
        }
        match (strange.into_iter().next(), &self.card) {
            (Some(error), _) => Err(error.into()),
            (None, Some(part)) if !places.is_empty() => {
                Err(Failure::NothingThere(part.clone(), places.join(", ")).into())
            }
            (None, _) => Err(Failure::NothingRuns.into()),
        }
    }

    fn wants(&self, page: &Reader) -> bool {
        self.card.as_ref().is_none_or(|part| page.location().contains(part))
    }

    /// Programs come and go while one looks; one that ended stays as long as nothing else runs.
    fn add_new(&self, cards: &mut Vec<Watched>) {
        let known = |page: &Reader, cards: &[Watched]| cards.iter().any(|card| card.page.is_same(page));
        let Ok(found) = self.find() else { return };
        let new: Vec<_> = found.into_iter().filter(|card| !known(&card.page, cards)).collect();
        if !new.is_empty() {
            cards.retain(|card| !card.ended);
            cards.extend(new);
        }
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || control && key.code == KeyCode::Char('c')
}

/// How many rows down a key moves the picture.
fn moved(event: &Event) -> isize {
    match event {
        Event::Key(key) if key.code == KeyCode::Down => 1,
        Event::Key(key) if key.code == KeyCode::Up => -1,
        Event::Key(key) if key.code == KeyCode::PageDown => 10,
        Event::Key(key) if key.code == KeyCode::PageUp => -10,
        _ => 0,
    }
}

fn object(cards: &[Watched]) -> String {
    let card = |card: &Watched| {
        let mut object = card.rates.object();
        object["location"] = card.page.location().into();
        object["process"] = card.page.process().into();
        object["ended"] = card.ended.into();
        object
    };
    json!({ "cards": cards.iter().map(card).collect::<Vec<_>>() }).to_string()
}
