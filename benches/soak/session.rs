//! A card that is opened, worked with and closed again and again, while faults are caused under it.

use crate::faults::{Reach, Trouble};
use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError, CardOptions};
use xdma::channel::EngineError;
use xdma::memory::{Buffer, DmaMemory, MemoryError};
use xdma::regs::Direction;
use xdma_emulator::EmulatedCard;
use xdma_emulator::faults::{Kind, Lasting};

/// A card while it is open.
pub struct Session<'a> {
    pub card: &'a Card,
    pub tally: &'a Tally,
    emulated: &'a EmulatedCard,
    /// All are to leave the card.
    leave: &'a AtomicBool,
    /// Something was forgotten that keeps the card open for the life of the process.
    kept: &'a AtomicBool,
}

/// How a handle goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    Drop,
    Forget,
}

/// A kind of card, and those who work with it.
pub struct Plan<S, W> {
    pub name: &'static str,
    pub seed: u64,
    /// Between two faults.
    pub pause: Duration,
    pub workers: usize,
    pub start: S,
    pub work: W,
}

impl<S, W> Plan<S, W>
where
    S: Fn() -> EmulatedCard + Send + Sync + 'static,
    W: Fn(&Session<'_>, usize, &mut StdRng) + Send + Sync + 'static,
{
    /// Works until told to stop.
    pub fn spawn(self, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (tally, stop) = (tally.clone(), stop.clone());
        thread::spawn(move || self.run(&tally, &stop))
    }

    fn run(&self, tally: &Tally, stop: &AtomicBool) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut trouble = Trouble::new(rng.random(), self.pause);
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
            let kept = AtomicBool::new(false);
            lost = self.session((&emulated, &card, &kept), &mut trouble, &mut rng, tally, stop);
            tally.quarantined(card.quarantined_bytes());
            if rng.random_bool(0.01) && tally.may_forget() {
                kept.store(true, Ordering::Relaxed);
                std::mem::forget(card.clone());
            }
            drop(card);
            emulated.inject(Kind::LinkUp).expect("there is a link");
            if kept.into_inner() {
                tally.forgotten();
                tally.violations(emulated.violations().iter().map(ToString::to_string));
                emulated = (self.start)();
            }
        }
        tally.violations(emulated.violations().iter().map(ToString::to_string));
    }

    /// Until the card is gone, or for a while. When it was gone, if it was.
    fn session(
        &self,
        (emulated, card, kept): (&EmulatedCard, &Card, &AtomicBool),
        trouble: &mut Trouble,
        rng: &mut StdRng,
        tally: &Tally,
        stop: &AtomicBool,
    ) -> Option<Instant> {
        let (leave, end) =
            (AtomicBool::new(false), Instant::now() + Duration::from_millis(rng.random_range(200..3000)));
        thread::scope(|scope| {
            let leave = &leave;
            for worker in 0..self.workers {
                let mut rng = StdRng::seed_from_u64(rng.random());
                let session = Session { card, tally, emulated, leave, kept };
                scope.spawn(move || (self.work)(&session, worker, &mut rng));
            }
            let mut lost = None;
            while !stop.load(Ordering::Relaxed) && lost.is_none() && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
                if trouble.strike(emulated, tally) == Some(Reach::Card) {
                    lost = Some(Instant::now());
                }
            }
            if lost.is_none() && rng.random_bool(0.5) {
                cause(emulated, Kind::AllOnes(Lasting::Millis(rng.random_range(2..30))), tally);
            }
            leave.store(true, Ordering::Relaxed);
            lost
        })
    }
}

fn cause(card: &EmulatedCard, kind: Kind, tally: &Tally) {
    card.inject(kind).expect("it concerns the card");
    tally.fault(kind.name());
}

/// Opens the card, whose registers may read all ones for some milliseconds.
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
    pub fn is_over(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }

    /// Repeats what may fail for some milliseconds.
    pub fn patiently<T, E>(&self, mut act: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            match act() {
                Err(_) if Instant::now() < end && !self.is_over() => thread::sleep(Duration::from_millis(2)),
                result => return result,
            }
        }
    }

    /// Whether all workers must leave the card. A worker may see the fault before the flag is set, so it waits for the flag.
    pub fn left(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(2);
        while !self.is_over() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        self.is_over()
    }

    /// How to end a channel.
    pub fn choose_end(&self, rng: &mut StdRng) -> End {
        match rng.random_range(0..1000) {
            0..4 if self.tally.may_forget() => End::Forget,
            at if at % 2 == 0 => End::Close,
            _ => End::Drop,
        }
    }

    /// Ends a channel. Whether it can be opened again.
    pub fn end<C>(&self, how: End, channel: C, close: fn(C) -> Result<(), EngineError>) -> bool {
        self.tally.ended(how);
        match how {
            End::Close => {
                if let Err(error) = close(channel) {
                    self.tally.engine_error("", &error);
                }
            }
            End::Drop => drop(channel),
            End::Forget => {
                self.kept.store(true, Ordering::Relaxed);
                std::mem::forget(channel);
            }
        }
        how != End::Forget
    }

    /// The channel's next transfer is held up.
    pub fn hold_up(&self, direction: Direction, channel: usize, rng: &mut StdRng) {
        let hang = Kind::AxiHang(Lasting::Millis(rng.random_range(5..40)));
        self.emulated.inject(hang.on(direction, channel)).expect("the card has all channels");
        self.tally.fault(hang.name());
    }

    /// The registers read all ones from now on, for a time.
    pub fn all_ones(&self, rng: &mut StdRng) {
        cause(self.emulated, Kind::AllOnes(Lasting::Millis(rng.random_range(2..15))), self.tally);
    }
}

/// Small buffers that no channel is given. Memory that an engine may still use must not be among them.
#[derive(Default)]
pub struct Unused(Vec<Buffer>);

impl Unused {
    const SIZES: [u64; 5] = [64, 512, 4096, 20_000, 100_000];

    /// Looks at those there are, and takes others.
    pub fn renew(&mut self, session: &Session<'_>) -> Result<(), MemoryError> {
        for buffer in self.0.drain(..) {
            let mut seen = vec![0u8; buffer.byte_len() as usize];
            buffer.read(0, &mut seen)?;
            if seen.iter().any(|&byte| byte != 0) {
                session.tally.mismatch("a buffer that no channel was given was written");
            }
        }
        for len in Self::SIZES {
            self.0.push(session.card.allocate(len, Direction::C2H)?);
        }
        Ok(())
    }
}
