//! Round trips on all channels of a card with plain memory.

use crate::session::{Canaries, Session, Workload};
use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xdma::channel::{Channel, ChannelOptions, EngineError, OpenError, Ring, Wait};
use xdma::memory::Buffer;
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma_emulator::logic::Memory;
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// Bytes of card memory for each pair of channels, and of each of its buffers.
const REGION: u64 = 1 << 20;
/// Time limit of a transfer. A lost completion is found at this limit.
const LIMIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Runs until `stop` is set.
pub fn start(seed: u64, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let start = move || {
        let options = EmulatorOptions { seed, ..EmulatorOptions::like(CardFile::alveo()) };
        EmulatedCard::start(options, Arc::new(Memory::new())).expect("an emulated card can be started")
    };
    Workload { name: "memory", seed, pause: PAUSE, workers: MAX_CHANNELS, start, work }.spawn(tally, stop)
}

/// An H2C and a C2H channel with their buffers.
struct Pair {
    h2c: Option<Channel>,
    c2h: Option<Channel>,
    source: Buffer,
    sink: Buffer,
    index: usize,
    canaries: Canaries,
}

impl Pair {
    fn open(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Self, Box<dyn Error>> {
        let channels =
            [Direction::H2C, Direction::C2H].map(|direction| channel(session, direction, index, rng));
        let [h2c, c2h] = channels;
        let (h2c, c2h) = (Some(h2c?), Some(c2h?));
        let source = session.card.allocate(REGION, Direction::H2C)?;
        let sink = session.card.allocate(REGION, Direction::C2H)?;
        Ok(Self { h2c, c2h, source, sink, index, canaries: Canaries::default() })
    }

    fn base(&self) -> u64 {
        REGION * self.index as u64
    }

    /// Sends random bytes and reads them back. Returns the number of bytes moved, and whether the data was correct.
    fn round_trip(&mut self, rng: &mut StdRng) -> Result<(u64, bool), Box<dyn Error>> {
        let len =
            if rng.random_bool(0.1) { rng.random_range(1..=REGION) } else { rng.random_range(1..20_000) };
        let (from, to) = (rng.random_range(0..=REGION - len), rng.random_range(0..=REGION - len));
        let mut data = vec![0; len as usize];
        rng.fill_bytes(&mut data);
        self.source.write(from, &data)?;
        let card = self.base() + to;
        let (Some(h2c), Some(c2h)) = (&mut self.h2c, &mut self.c2h) else {
            return Err(EngineError::Stopped.into());
        };
        h2c.transfer(&self.source, from..from + len, card, LIMIT)?;
        c2h.transfer(&self.sink, to..to + len, card, LIMIT)?;
        let mut received = vec![0; len as usize];
        self.sink.read(to, &mut received)?;
        Ok((2 * len, received == data))
    }

    fn recover(&mut self) -> Result<(), EngineError> {
        self.h2c.iter_mut().chain(&mut self.c2h).try_for_each(Channel::recover)
    }

    /// Ends one of the channels, mostly with transfers in flight and in half of the cases under faults. Returns whether it can be
    /// opened again.
    fn end(&mut self, direction: Direction, session: &Session<'_>, rng: &mut StdRng) -> bool {
        let base = self.base();
        let (slot, memory) = match direction {
            Direction::H2C => (&mut self.h2c, &self.source),
            Direction::C2H => (&mut self.c2h, &self.sink),
        };
        let Some(mut channel) = slot.take() else { return true };
        let (how, gone) = (session.choose_disposal(rng), rng.random_bool(0.5));
        if gone {
            session.stall(direction, self.index, rng);
        }
        for _ in 0..rng.random_range(0..4) {
            let len = rng.random_range(1..=REGION);
            if let Err(error) = channel.submit(memory, 0..len, base) {
                session.tally.error("", &error);
            }
        }
        if gone {
            session.all_ones(rng);
        }
        session.end(how, channel, Channel::close)
    }

    /// Allocates new buffers, and opens the channels that were ended.
    fn open_again(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<(), Box<dyn Error>> {
        self.canaries.renew(session)?;
        self.source = session.card.allocate(REGION, Direction::H2C)?;
        self.sink = session.card.allocate(REGION, Direction::C2H)?;
        if self.h2c.is_none() {
            self.h2c = Some(session.retry(|| channel(session, Direction::H2C, self.index, rng))?);
        }
        if self.c2h.is_none() {
            self.c2h = Some(session.retry(|| channel(session, Direction::C2H, self.index, rng))?);
        }
        Ok(())
    }

    /// Ends one or both channels and opens them again. Returns `false` if that is impossible.
    fn reopen(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<bool, Box<dyn Error>> {
        let selected = rng.random_range(1..4);
        for (bit, direction) in [(1, Direction::H2C), (2, Direction::C2H)] {
            if selected & bit != 0 && !self.end(direction, session, rng) {
                return Ok(false);
            }
        }
        self.open_again(session, rng).map(|()| true)
    }
}

fn channel(
    session: &Session<'_>,
    direction: Direction,
    index: usize,
    rng: &mut StdRng,
) -> Result<Channel, OpenError> {
    let ring = if rng.random_bool(0.5) { Ring::Chain } else { Ring::Credits };
    let wait = Wait::ALL[rng.random_range(1..4)];
    let options = ChannelOptions { ring: Some(ring), wait, ..ChannelOptions::default() };
    session.card.channel(direction, index, options)
}

fn work(session: &Session<'_>, index: usize, rng: &mut StdRng) {
    let tally = session.tally;
    let mut pair = match session.retry(|| Pair::open(session, index, rng)) {
        Ok(pair) => pair,
        // The link may be down again.
        Err(_) if session.ends_soon() => return,
        Err(error) => return tally.unexplained(format!("cannot open pair {index}: {error}")),
    };
    let mut failed: Option<Instant> = None;
    while !session.is_over() {
        let (mut reopen, mut recovered): (bool, Result<(), EngineError>) = (rng.random_bool(0.01), Ok(()));
        match pair.round_trip(rng) {
            Ok((bytes, correct)) => {
                if let Some(since) = failed.take() {
                    tally.recovery("channel recovered", since.elapsed());
                }
                if correct {
                    tally.job(bytes)
                } else {
                    tally.mismatch(format!("pair {index}: the data read differs from the data written"))
                }
            }
            Err(error) => {
                tally.error("", &*error);
                failed.get_or_insert_with(Instant::now);
                reopen |= rng.random_bool(0.3);
                if !reopen {
                    recovered = session.retry(|| pair.recover());
                }
            }
        }
        match recovered
            .map_err(Box::from)
            .and_then(|()| if reopen { pair.reopen(session, rng) } else { Ok(true) })
        {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) if session.ends_soon() => return,
            Err(error) => {
                return tally.unexplained(format!("pair {index} does not work after its recovery: {error}"));
            }
        }
    }
    // Leave transfers in flight, so that the card is closed with them.
    for channel in [&mut pair.h2c, &mut pair.c2h].into_iter().flatten() {
        let memory = if channel.direction() == Direction::H2C { &pair.source } else { &pair.sink };
        let _ = channel.submit(memory, 0..REGION, REGION * index as u64);
    }
}
