//! Transfers there and back on all channels of a card with memory behind it.

use crate::faults::{Reach, Trouble};
use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError, CardOptions};
use xdma::emulator::faults::Kind;
use xdma::emulator::logic::Memory;
use xdma::emulator::{EmulatedCard, Options, Profile};
use xdma::engine::{Channel, ChannelOptions, EngineError, Ring, Wait};
use xdma::memory::Buffer;
use xdma::regs::{Direction, MAX_CHANNELS};

/// Bytes of the card for each pair of channels, and of its buffers.
const REGION: u64 = 1 << 20;
/// A completion that was lost is found by this.
const LIMIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Works until told to stop.
pub fn start(seed: u64, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (tally, stop) = (tally.clone(), stop.clone());
    thread::spawn(move || {
        let options = Options { profile: Profile::Alveo, seed, ..Options::default() };
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).expect("a card starts anywhere");
        let mut trouble = Trouble::new(seed, PAUSE);
        let mut epoch = 0;
        let mut lost: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            epoch += 1;
            let card = match open(&emulated) {
                Ok(card) => card,
                Err(error) => return tally.unexplained(format!("the card does not open: {error}")),
            };
            if let Some(since) = lost.take() {
                tally.recovery("card opened again", since.elapsed());
            }
            let leave = AtomicBool::new(false);
            thread::scope(|scope| {
                for pair in 0..MAX_CHANNELS {
                    let (card, tally, leave) = (card.clone(), &*tally, &leave);
                    let mut rng = StdRng::seed_from_u64(seed ^ (epoch << 8) ^ pair as u64);
                    scope.spawn(move || work(&card, pair, &mut rng, tally, leave));
                }
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                    if trouble.strike(&emulated, &tally) == Some(Reach::Card) {
                        lost = Some(Instant::now());
                        break;
                    }
                }
                leave.store(true, Ordering::Relaxed);
            });
            drop(card);
            emulated.inject(Kind::LinkUp).expect("there is a link");
        }
        tally.violations(emulated.violations().iter().map(ToString::to_string));
    })
}

/// A pair of channels with memory.
struct Pair {
    h2c: Channel,
    c2h: Channel,
    source: Buffer,
    sink: Buffer,
    base: u64,
}

impl Pair {
    fn open(card: &Card, pair: usize, rng: &mut StdRng) -> Result<Self, Box<dyn std::error::Error>> {
        let ring = if rng.random_bool(0.5) { Ring::Chain } else { Ring::Credits };
        let wait = Wait::ALL[rng.random_range(1..4)];
        let options = ChannelOptions { ring: Some(ring), wait, ..ChannelOptions::default() };
        Ok(Self {
            h2c: card.channel(Direction::H2C, pair, options)?,
            c2h: card.channel(Direction::C2H, pair, options)?,
            source: card.allocate(REGION, Direction::H2C)?,
            sink: card.allocate(REGION, Direction::C2H)?,
            base: REGION * pair as u64,
        })
    }

    /// There and back; whether it came back as it went.
    fn round(&mut self, rng: &mut StdRng) -> Result<(u64, bool), EngineError> {
        let len =
            if rng.random_bool(0.1) { rng.random_range(1..=REGION) } else { rng.random_range(1..20_000) };
        let (from, to) = (rng.random_range(0..=REGION - len), rng.random_range(0..=REGION - len));
        let mut data = vec![0; len as usize];
        rng.fill_bytes(&mut data);
        self.source.write(from, &data)?;
        let card = self.base + to;
        self.h2c.transfer(&self.source, from..from + len, card, LIMIT)?;
        self.c2h.transfer(&self.sink, to..to + len, card, LIMIT)?;
        let mut seen = vec![0; len as usize];
        self.sink.read(to, &mut seen)?;
        Ok((2 * len, seen == data))
    }

    fn recover(&mut self) -> Result<(), EngineError> {
        self.h2c.recover().and_then(|()| self.c2h.recover())
    }
}

fn work(card: &Card, pair: usize, rng: &mut StdRng, tally: &Tally, leave: &AtomicBool) {
    let mut lane = match Pair::open(card, pair, rng) {
        Ok(lane) => lane,
        // The link may be down again by now.
        Err(_) if left(leave) => return,
        Err(error) => return tally.unexplained(format!("pair {pair} does not open: {error}")),
    };
    let mut failed: Option<Instant> = None;
    while !leave.load(Ordering::Relaxed) {
        match lane.round(rng) {
            Ok((bytes, right)) => {
                if let Some(since) = failed.take() {
                    tally.recovery("channel recovered", since.elapsed());
                }
                if right {
                    tally.job(bytes)
                } else {
                    tally.mismatch(format!("pair {pair}: other bytes came back"))
                }
            }
            Err(error) => {
                tally.error(kind(&error));
                failed.get_or_insert_with(Instant::now);
                match patiently(leave, || lane.recover()) {
                    Ok(()) => {}
                    Err(_) if leave.load(Ordering::Relaxed) => return,
                    Err(error) => return tally.unexplained(format!("pair {pair} is not recovered: {error}")),
                }
            }
        }
    }
}

/// Opens the card, whose registers may read all ones for some milliseconds.
pub fn open(emulated: &EmulatedCard) -> Result<Card, CardError> {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        match Card::connect(emulated.socket(), CardOptions::default()) {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            result => return result,
        }
    }
}

/// Recovers what may be gone for some milliseconds.
pub fn patiently<E>(leave: &AtomicBool, mut recover: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        match recover() {
            Err(_) if Instant::now() < end && !leave.load(Ordering::Relaxed) => {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

/// Whether all are to leave the card, which those who are quick see before they are told.
pub fn left(leave: &AtomicBool) -> bool {
    let end = Instant::now() + Duration::from_secs(2);
    while !leave.load(Ordering::Relaxed) && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    leave.load(Ordering::Relaxed)
}

pub fn kind(error: &EngineError) -> &'static str {
    match error {
        EngineError::Failed { .. } => "Failed",
        EngineError::Deadline { .. } => "Deadline",
        EngineError::Gone { .. } => "Gone",
        EngineError::Hung { .. } => "Hung",
        EngineError::Stopped => "Stopped",
        EngineError::Bus { .. } => "Bus",
        _ => "other",
    }
}
