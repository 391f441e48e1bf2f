//! A session: uses all functions of the driver once, with short time limits.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardOptions, Source};
use xdma::channel::{Channel, ChannelOptions, Ring, Transfers};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma::regs::map::Block;
use xdma::unstable::bus::Bus;
use xdma::unstable::card::on_bus;

/// Maximum time of a single call: several waits, the longest deadline on the card's socket, and delays of a busy processor.
const CALL: Duration = Duration::from_secs(30);
const BYTES: u64 = 3 * 4096;

/// The parts of a session that succeeded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub opened: bool,
    pub transferred: bool,
    pub computed: bool,
}

/// Runs a call and checks its time.
fn timed<R>(call: impl FnOnce() -> R) -> R {
    let begin = Instant::now();
    let result = call();
    assert!(begin.elapsed() < CALL, "a call took {:?}", begin.elapsed());
    result
}

/// Runs a session in which each wait, and the wait for an idle engine, ends after `limit`.
pub fn run(bus: Arc<dyn Bus>, seed: u64, limit: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    let rng = &mut StdRng::seed_from_u64(seed);
    let options = CardOptions { idle_limit: limit, ..CardOptions::default() };
    // SAFETY: the bus has no other user.
    let Ok(card) = timed(|| unsafe { on_bus(bus, options) }) else { return outcome };
    outcome.opened = true;
    inspect(&card);
    outcome.transferred = (0..2).all(|_| timed(|| use_channels(&card, rng, limit)).is_ok());
    outcome.computed = timed(|| compute(&card, rng, limit)).is_ok();
    let _ = timed(|| card.reset());
    inspect(&card);
    timed(|| drop(card));
    outcome
}

fn inspect(card: &Card) {
    let _ = timed(|| card.report());
    for block in Block::of_core(4, 4).into_iter().chain([Block::msm()]) {
        if let Ok(readings) = timed(|| card.read_block(&block, false)) {
            let fields =
                readings.iter().flat_map(|reading| reading.register.fields.iter().zip([reading.value; 40]));
            fields.for_each(|(field, value)| _ = field.of(value.unwrap_or(0) as u32));
        }
    }
}

fn use_channels(card: &Card, rng: &mut StdRng, limit: Duration) -> Result<(), Box<dyn Error>> {
    for direction in [Direction::H2C, Direction::C2H] {
        let ring = [None, Some(Ring::Chain), Some(Ring::Credits)][rng.random_range(0..3)];
        let options = ChannelOptions { ring, interrupt: rng.random(), ..ChannelOptions::default() };
        let mut channel = timed(|| card.channel(direction, rng.random_range(0..4), options))?;
        let interrupt = card.interrupt(Source::Channel(direction, channel.index()));
        let result = timed(|| use_channel(card, &mut channel, rng, limit));
        if result.is_err() {
            // Recover and try again, as a program would.
            let _ = timed(|| channel.recover());
            let _ = timed(|| use_channel(card, &mut channel, rng, limit));
        }
        drop(interrupt);
        timed(|| channel.close())?;
        result?;
    }
    Ok(())
}

fn use_channel(
    card: &Card,
    channel: &mut Channel,
    rng: &mut StdRng,
    limit: Duration,
) -> Result<(), Box<dyn Error>> {
    let buffer = card.allocate(BYTES, channel.direction())?;
    for _ in 0..4 {
        let end = rng.random_range(1..=BYTES);
        timed(|| channel.transfer(&buffer, 0..end, 0x1000, limit))?;
    }
    let mut transfers = Transfers::new(channel.direction());
    for page in 0..3 {
        transfers.add(&buffer, page * 4096..(page + 1) * 4096, page * 4096)?;
    }
    let program = channel.program(&transfers)?;
    for _ in 0..3 {
        let tickets = [channel.run(&program)?, channel.start(&transfers)?];
        for ticket in tickets {
            timed(|| channel.wait(ticket, limit))?;
        }
    }
    let _ = format!("{}", timed(|| channel.snapshot())?);
    timed(|| channel.rearm_interrupt())?;
    timed(|| channel.stop())?;
    timed(|| channel.recover())?;
    assert_eq!(channel.in_flight(), 0);
    Ok(())
}

fn compute(card: &Card, rng: &mut StdRng, limit: Duration) -> Result<(), Box<dyn Error>> {
    let mut msm = timed(|| Msm::open(card, MsmOptions::default()))?;
    let points = Points::allocate(card, 64)?;
    let scalars = Scalars::allocate(card, 64, ScalarForm::Canonical)?;
    let job = timed(|| msm.prepare(&points, &scalars))?;
    let mut result: Result<(), Box<dyn Error>> = Ok(());
    for _ in 0..rng.random_range(1..4) {
        result = timed(|| {
            let ticket = msm.submit(&job)?;
            msm.wait(ticket, limit * 20)?;
            Ok(())
        });
        if let Err(error) = &result {
            let _ = (error.to_string(), timed(|| msm.state()), timed(|| msm.recover()));
        }
    }
    result
}
