//! Transfers there and back on all channels of a card with memory behind it.

use crate::session::{Plan, Session, Unused};
use crate::tally::Tally;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use xdma::card::CardError;
use xdma::channel::{Channel, ChannelOptions, EngineError, Ring, Wait};
use xdma::memory::Buffer;
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma_emulator::logic::Memory;
use xdma_emulator::{EmulatedCard, Options, Profile};

/// Bytes of the card for each pair of channels, and of its buffers.
const REGION: u64 = 1 << 20;
/// A completion that was lost is found by this.
const LIMIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Works until told to stop.
pub fn start(seed: u64, tally: &Arc<Tally>, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let start = move || {
        let options = Options { profile: Profile::Alveo, seed, ..Options::default() };
        EmulatedCard::start(options, Arc::new(Memory::new())).expect("a card starts anywhere")
    };
    Plan { name: "memory", seed, pause: PAUSE, workers: MAX_CHANNELS, start, work }.spawn(tally, stop)
}

/// A pair of channels with memory.
struct Pair {
    h2c: Option<Channel>,
    c2h: Option<Channel>,
    source: Buffer,
    sink: Buffer,
    index: usize,
    unused: Unused,
}

impl Pair {
    fn open(session: &Session<'_>, index: usize, rng: &mut StdRng) -> Result<Self, CardError> {
        let channels =
            [Direction::H2C, Direction::C2H].map(|direction| channel(session, direction, index, rng));
        let [h2c, c2h] = channels;
        let (h2c, c2h) = (Some(h2c?), Some(c2h?));
        let source = session.card.allocate(REGION, Direction::H2C)?;
        let sink = session.card.allocate(REGION, Direction::C2H)?;
        Ok(Self { h2c, c2h, source, sink, index, unused: Unused::default() })
    }

    fn base(&self) -> u64 {
        REGION * self.index as u64
    }

    /// There and back; whether it came back as it went.
    fn round(&mut self, rng: &mut StdRng) -> Result<(u64, bool), EngineError> {
        let len =
            if rng.random_bool(0.1) { rng.random_range(1..=REGION) } else { rng.random_range(1..20_000) };
        let (from, to) = (rng.random_range(0..=REGION - len), rng.random_range(0..=REGION - len));
        let mut data = vec![0; len as usize];
        rng.fill_bytes(&mut data);
        self.source.write(from, &data)?;
        let card = self.base() + to;
        let (Some(h2c), Some(c2h)) = (&mut self.h2c, &mut self.c2h) else { return Err(EngineError::Stopped) };
        h2c.transfer(&self.source, from..from + len, card, LIMIT)?;
        c2h.transfer(&self.sink, to..to + len, card, LIMIT)?;
        let mut seen = vec![0; len as usize];
        self.sink.read(to, &mut seen)?;
        Ok((2 * len, seen == data))
    }

    fn recover(&mut self) -> Result<(), EngineError> {
        self.h2c.iter_mut().chain(&mut self.c2h).try_for_each(Channel::recover)
    }

    /// Ends one of the channels, mostly with a transfer in flight and in the worst moment. Whether it can be opened again.
    fn end(&mut self, direction: Direction, session: &Session<'_>, rng: &mut StdRng) -> bool {
        let base = self.base();
        let (place, memory) = match direction {
            Direction::H2C => (&mut self.h2c, &self.source),
            Direction::C2H => (&mut self.c2h, &self.sink),
        };
        let Some(mut channel) = place.take() else { return true };
        let (how, blind) = (session.choose_end(rng), rng.random_bool(0.5));
        if blind {
            session.hold_up(direction, self.index, rng);
        }
        for _ in 0..rng.random_range(0..4) {
            let len = rng.random_range(1..=REGION);
            if let Err(error) = channel.submit(memory, 0..len, base) {
                session.tally.engine_error("", &error);
            }
        }
        if blind {
            session.all_ones(rng);
        }
        session.end(how, channel, Channel::close)
    }

    /// Takes other buffers, and the channels that have ended.
    fn open_again(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<(), CardError> {
        self.unused.renew(session)?;
        self.source = session.card.allocate(REGION, Direction::H2C)?;
        self.sink = session.card.allocate(REGION, Direction::C2H)?;
        if self.h2c.is_none() {
            self.h2c = Some(session.patiently(|| channel(session, Direction::H2C, self.index, rng))?);
        }
        if self.c2h.is_none() {
            self.c2h = Some(session.patiently(|| channel(session, Direction::C2H, self.index, rng))?);
        }
        Ok(())
    }

    /// Ends a channel or both, and opens them again; false if that will not be possible.
    fn renew(&mut self, session: &Session<'_>, rng: &mut StdRng) -> Result<bool, CardError> {
        let which = rng.random_range(1..4);
        for (bit, direction) in [(1, Direction::H2C), (2, Direction::C2H)] {
            if which & bit != 0 && !self.end(direction, session, rng) {
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
) -> Result<Channel, CardError> {
    let ring = if rng.random_bool(0.5) { Ring::Chain } else { Ring::Credits };
    let wait = Wait::ALL[rng.random_range(1..4)];
    let options = ChannelOptions { ring: Some(ring), wait, ..ChannelOptions::default() };
    session.card.channel(direction, index, options)
}

fn work(session: &Session<'_>, index: usize, rng: &mut StdRng) {
    let tally = session.tally;
    let mut pair = match session.patiently(|| Pair::open(session, index, rng)) {
        Ok(pair) => pair,
        // The link may be down again by now.
        Err(_) if session.left() => return,
        Err(error) => return tally.unexplained(format!("pair {index} does not open: {error}")),
    };
    let mut failed: Option<Instant> = None;
    while !session.is_over() {
        let (mut renew, mut recovered): (bool, Result<(), EngineError>) = (rng.random_bool(0.01), Ok(()));
        match pair.round(rng) {
            Ok((bytes, right)) => {
                if let Some(since) = failed.take() {
                    tally.recovery("channel recovered", since.elapsed());
                }
                if right {
                    tally.job(bytes)
                } else {
                    tally.mismatch(format!("pair {index}: other bytes came back"))
                }
            }
            Err(error) => {
                tally.engine_error("", &error);
                failed.get_or_insert_with(Instant::now);
                renew |= rng.random_bool(0.3);
                if !renew {
                    recovered = session.patiently(|| pair.recover());
                }
            }
        }
        match recovered
            .map_err(CardError::from)
            .and_then(|()| if renew { pair.renew(session, rng) } else { Ok(true) })
        {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) if session.left() => return,
            Err(error) => return tally.unexplained(format!("pair {index} does not work again: {error}")),
        }
    }
    // The card is closed with transfers in flight.
    for channel in [&mut pair.h2c, &mut pair.c2h].into_iter().flatten() {
        let memory = if channel.direction() == Direction::H2C { &pair.source } else { &pair.sink };
        let _ = channel.submit(memory, 0..REGION, REGION * index as u64);
    }
}
