//! What goes wrong, and when.

use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma_emulator::EmulatedCard;
use xdma_emulator::faults::{BadCompletion, Kind, Lasting};

/// Causes faults of one card, one after the other.
pub struct Trouble {
    rng: StdRng,
    next: Instant,
    pause: Duration,
}

/// What a fault does to those who use the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A channel fails, or all do for a while.
    Channel,
    /// The card is gone: all must close it.
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
        let kind = self.choose();
        let index = self.rng.random_range(0..MAX_CHANNELS);
        let direction = if self.rng.random_bool(0.5) { Direction::H2C } else { Direction::C2H };
        let direction = if matches!(kind, Kind::HostRead(_)) { Direction::H2C } else { direction };
        card.inject(kind.on(direction, index)).expect("the card has all channels");
        tally.fault(kind.name());
        Some(if kind == Kind::LinkDown { Reach::Card } else { Reach::Channel })
    }

    /// Anything that a driver can notice, and that ends by itself or by a recovery.
    fn choose(&mut self) -> Kind {
        let with = [
            BadCompletion::UnsupportedRequest,
            BadCompletion::CompleterAbort,
            BadCompletion::Parity,
            BadCompletion::Poisoned,
            BadCompletion::Unexpected,
        ][self.rng.random_range(0..5)];
        let millis = self.rng.random_range(1..20);
        let lasting = Lasting::Millis(millis);
        [
            Kind::BadMagic,
            Kind::Fetch(with),
            Kind::HostRead(with),
            Kind::WriteBackDropped,
            Kind::WriteBackDelayed(millis),
            Kind::WriteBackRepeated,
            Kind::InterruptLost,
            Kind::InterruptRepeated,
            Kind::InterruptLate(millis),
            Kind::AxiSlaveError,
            Kind::AxiDecodeError,
            Kind::AxiHang(lasting),
            Kind::BusyStuck(lasting),
            Kind::CountJump(1 << 20),
            Kind::AllOnes(lasting),
            Kind::LinkDown,
        ][self.rng.random_range(0..16)]
    }
}
