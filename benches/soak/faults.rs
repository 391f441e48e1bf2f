//! What goes wrong, and when.

use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};
use xdma::emulator::faults::{BadCompletion, Injection};
use xdma::emulator::{ChannelId, EmulatedCard};
use xdma::regs::{Direction, MAX_CHANNELS};

/// Causes faults of one card, one after the other.
pub struct Trouble {
    rng: StdRng,
    next: Instant,
    pause: Duration,
}

/// What a fault does to those who use the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A channel fails.
    Channel,
    /// The card is gone for a while: all must close it.
    Card,
}

impl Trouble {
    pub fn new(seed: u64, pause: Duration) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), next: Instant::now() + pause, pause }
    }

    /// Causes a fault, if it is time for one.
    pub fn strike(&mut self, card: &EmulatedCard, tally: &Tally) -> Option<Reach> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + self.pause.mul_f64(self.rng.random_range(0.2..2.0));
        let (injection, reach) = self.choose();
        card.inject(injection).expect("the card has all channels");
        tally.fault(&name(injection));
        Some(reach)
    }

    fn choose(&mut self) -> (Injection, Reach) {
        let index = self.rng.random_range(0..MAX_CHANNELS);
        let direction = if self.rng.random_bool(0.5) { Direction::H2C } else { Direction::C2H };
        let with = [
            BadCompletion::UnsupportedRequest,
            BadCompletion::CompleterAbort,
            BadCompletion::Parity,
            BadCompletion::Poisoned,
            BadCompletion::Unexpected,
        ][self.rng.random_range(0..5)];
        match self.rng.random_range(0..20) {
            0 => (Injection::LinkDown, Reach::Card),
            1..=10 => (Injection::Fetch(ChannelId { direction, index }, with), Reach::Channel),
            _ => (Injection::HostRead(index, with), Reach::Channel),
        }
    }
}

fn name(injection: Injection) -> String {
    match injection {
        Injection::Fetch(_, with) => format!("fetch: {with:?}"),
        Injection::HostRead(_, with) => format!("host read: {with:?}"),
        Injection::LinkDown => "link down".into(),
        Injection::LinkUp => "link up".into(),
    }
}
