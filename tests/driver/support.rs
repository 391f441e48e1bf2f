//! A card with memory or the MSM design behind it, watched for broken rules.

use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions};
use xdma::emulator::logic::{Logic, Memory};
use xdma::emulator::{EmulatedCard, Options};

/// Long enough for a crowded machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// An emulated card; dropping it checks that the driver broke no rule.
pub struct Bench {
    pub emulated: EmulatedCard,
}

impl Bench {
    pub fn new(options: Options, logic: Arc<dyn Logic>) -> Self {
        Self { emulated: EmulatedCard::start(options, logic).expect("an emulated card starts anywhere") }
    }

    pub fn memory(options: Options) -> Self {
        Self::new(options, Arc::new(Memory::new()))
    }

    pub fn open(&self) -> Card {
        Card::connect(self.emulated.socket(), CardOptions::default()).expect("the card is there and free")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations: Vec<_> = self.emulated.violations().iter().map(ToString::to_string).collect();
            assert!(violations.is_empty(), "the driver broke rules: {violations:#?}");
        }
    }
}

/// Bytes that differ from page to page.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
