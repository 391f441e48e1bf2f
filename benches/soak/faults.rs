//! Random faults.

use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma_emulator::EmulatedCard;
use xdma_emulator::faults::{BadCompletion, FaultDuration, Kind};

/// Injects random faults into one card.
pub struct FaultSource {
    rng: StdRng,
    /// Time of the next fault.
    next: Instant,
    /// Approximate mean time between two faults.
    pause: Duration,
}

/// The scope of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impact {
    /// One channel fails, or all channels fail for a while.
    Channel,
    /// The card is gone and must be closed.
    Card,
}

impl FaultSource {
    pub fn new(seed: u64, pause: Duration) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), next: Instant::now() + pause, pause }
    }

    /// Injects a fault if one is due.
    pub fn inject_due(&mut self, card: &EmulatedCard, tally: &Tally) -> Option<Impact> {
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
        Some(if kind == Kind::LinkDown { Impact::Card } else { Impact::Channel })
    }

    /// Chooses a fault that a driver can detect, and that ends automatically or by a recovery.
    fn choose(&mut self) -> Kind {
        let with = [
            BadCompletion::UnsupportedRequest,
            BadCompletion::CompleterAbort,
            BadCompletion::Parity,
            BadCompletion::Poisoned,
            BadCompletion::Unexpected,
        ][self.rng.random_range(0..5)];
        let millis = self.rng.random_range(1..20);
        let lasting = FaultDuration::Millis(millis);
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
