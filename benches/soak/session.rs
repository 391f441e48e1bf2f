//! Repeatedly opens a card, uses it under injected faults, and closes it.

use crate::faults::{FaultSource, Impact};
use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError, CardOptions};
use xdma::channel::CloseError;
use xdma::memory::{Buffer, DmaMemory, MemoryError};
use xdma::regs::Direction;
use xdma_emulator::EmulatedCard;
use xdma_emulator::faults::{FaultDuration, Kind};

/// An open card, shared by several workers.
pub struct Session<'a> {
    pub card: &'a Card,
    pub tally: &'a Tally,
    emulated: &'a EmulatedCard,
    /// Set when all workers must stop using the card.
    over: &'a AtomicBool,
    /// Set when a forgotten handle keeps the card open for the life of the process.
    leaked: &'a AtomicBool,
}

/// How a handle is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    Close,
    Drop,
    Forget,
}

/// A kind of card, and the work done on it.
pub struct Workload<S, W> {
    pub name: &'static str,
    pub seed: u64,
    /// Approximate mean time between two faults.
    pub pause: Duration,
    /// Number of worker threads.
    pub workers: usize,
    /// Starts an emulated card.
    pub start: S,
    /// The work of one worker, which ends with the session.
    pub work: W,
}

impl<S, W> Workload<S, W>
where
    S: Fn() -> EmulatedCard + Send + Sync + 'static,
    W: Fn(&Session<'_>, usize, &mut StdRng) + Send + Sync + 'static,
{
    /// Runs sessions in a new thread until `stop` is set.
    pub fn spawn(self, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (tally, stop) = (tally.clone(), stop.clone());
        thread::spawn(move || self.run(&tally, &stop))
    }

    fn run(&self, tally: &Tally, stop: &AtomicBool) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut faults = FaultSource::new(rng.random(), self.pause);
        let mut emulated = (self.start)();
        let mut lost: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            let card = match open(&emulated) {
                Ok(card) => card,
                Err(error) => {
                    return tally.unexplained(format!("the {} card does not open: {error}", self.name));
                }
            };
            if let Some(since) = lost.take() {
                tally.recovery("card opened again", since.elapsed());
            }
            let leaked = AtomicBool::new(false);
            lost = self.session((&emulated, &card, &leaked), &mut faults, &mut rng, tally, stop);
            tally.quarantined(card.quarantined_bytes());
            if rng.random_bool(0.01) && tally.may_forget() {
                leaked.store(true, Ordering::Relaxed);
                std::mem::forget(card.clone());
            }
            drop(card);
            emulated.inject(Kind::LinkUp).expect("the card has a link");
            if leaked.into_inner() {
                tally.leaked();
                tally.violations(emulated.violations().iter().map(ToString::to_string));
                emulated = (self.start)();
            }
        }
        tally.violations(emulated.violations().iter().map(ToString::to_string));
    }

    /// Runs one session. If the card was lost, returns the time of the fault.
    fn session(
        &self,
        (emulated, card, leaked): (&EmulatedCard, &Card, &AtomicBool),
        faults: &mut FaultSource,
        rng: &mut StdRng,
        tally: &Tally,
        stop: &AtomicBool,
    ) -> Option<Instant> {
        let (over, end) =
            (AtomicBool::new(false), Instant::now() + Duration::from_millis(rng.random_range(200..3000)));
        thread::scope(|scope| {
            let over = &over;
            for worker in 0..self.workers {
                let mut rng = StdRng::seed_from_u64(rng.random());
                let session = Session { card, tally, emulated, over, leaked };
                scope.spawn(move || (self.work)(&session, worker, &mut rng));
            }
            let mut lost = None;
            while !stop.load(Ordering::Relaxed) && lost.is_none() && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
                if faults.inject_due(emulated, tally) == Some(Impact::Card) {
                    lost = Some(Instant::now());
                }
            }
            if lost.is_none() && rng.random_bool(0.5) {
                inject(emulated, Kind::AllOnes(FaultDuration::Millis(rng.random_range(2..30))), tally);
            }
            over.store(true, Ordering::Relaxed);
            lost
        })
    }
}

fn inject(card: &EmulatedCard, kind: Kind, tally: &Tally) {
    card.inject(kind).expect("the fault applies to the whole card");
    tally.fault(kind.name());
}

/// Opens the card. Its registers may read all ones for a few milliseconds.
fn open(emulated: &EmulatedCard) -> Result<Card, CardError> {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        match xdma_emulated_card::connect(emulated, CardOptions::default()) {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            result => return result,
        }
    }
}

impl Session<'_> {
    /// Returns whether all workers must stop using the card.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Repeats a call until it succeeds. It may fail for a few milliseconds.
    pub fn retry<T, E>(&self, mut call: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            match call() {
                Err(_) if Instant::now() < end && !self.is_over() => thread::sleep(Duration::from_millis(2)),
                result => return result,
            }
        }
    }

    /// Returns whether the session is over, after waiting for up to two seconds: a worker may see a fault before the session is
    /// ended.
    pub fn ends_soon(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(2);
        while !self.is_over() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        self.is_over()
    }

    /// Chooses how to end a channel.
    pub fn choose_disposal(&self, rng: &mut StdRng) -> Disposal {
        match rng.random_range(0..1000) {
            0..4 if self.tally.may_forget() => Disposal::Forget,
            at if at % 2 == 0 => Disposal::Close,
            _ => Disposal::Drop,
        }
    }

    /// Ends a channel. Returns whether it can be opened again.
    pub fn end<C>(&self, how: Disposal, channel: C, close: fn(C) -> Result<(), CloseError>) -> bool {
        self.tally.ended(how);
        match how {
            Disposal::Close => {
                if let Err(error) = close(channel) {
                    self.tally.error("", &error);
                }
            }
            Disposal::Drop => drop(channel),
            Disposal::Forget => {
                self.leaked.store(true, Ordering::Relaxed);
                std::mem::forget(channel);
            }
        }
        how != Disposal::Forget
    }

    /// Makes the channel's next transfer hang for the given number of milliseconds.
    pub fn stall(&self, direction: Direction, channel: usize, rng: &mut StdRng) {
        let hang = Kind::AxiHang(FaultDuration::Millis(rng.random_range(5..40)));
        self.emulated.inject(hang.on(direction, channel)).expect("the card has all channels");
        self.tally.fault(hang.name());
    }

    /// Makes the registers read all ones for a few milliseconds.
    pub fn all_ones(&self, rng: &mut StdRng) {
        inject(self.emulated, Kind::AllOnes(FaultDuration::Millis(rng.random_range(2..15))), self.tally);
    }
}

/// Small buffers that no channel uses, so they must stay zero. They detect quarantined memory that is allocated again.
#[derive(Default)]
pub struct Canaries(Vec<Buffer>);

impl Canaries {
    const SIZES: [u64; 5] = [64, 512, 4096, 20_000, 100_000];

    /// Checks the canaries, and replaces them with new ones.
    pub fn renew(&mut self, session: &Session<'_>) -> Result<(), MemoryError> {
        for buffer in self.0.drain(..) {
            let mut seen = vec![0u8; buffer.byte_len() as usize];
            buffer.read(0, &mut seen)?;
            if seen.iter().any(|&byte| byte != 0) {
                session.tally.mismatch("a buffer that no channel uses was written");
            }
        }
        for len in Self::SIZES {
            self.0.push(session.card.allocate(len, Direction::C2H)?);
        }
        Ok(())
    }
}
