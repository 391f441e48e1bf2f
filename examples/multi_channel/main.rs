//! Several channels at once: a thread for each, and one transfer spread over all.
//!
//!     cargo run --release --example multi_channel -- --channels 4
//!
//! The rules: a `Card` is a handle, cloned and shared by any threads. A `Channel` has one owner at a time: it may be moved to
//! another thread and is never shared, so nothing in it is locked. A buffer belongs to whoever holds it and can be used on any
//! channel. Transfers of one channel finish in order, those of different channels in any.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::Pool;
use xdma::regs::Direction;
use xdma::regs::msm::{SCRATCH_SIZE, SCRATCH_WINDOW};
use xdma_examples::card::CardArgs;
use xdma_examples::human;

const LIMIT: Duration = Duration::from_secs(10);

/// Uses several channels at once.
#[derive(Parser)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// Channels of each direction.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    channels: u32,
    /// How often each thread writes and reads its part of the scratch memory.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
}

fn main() -> Result<()> {
    run(&Options::parse())
}

pub fn run(options: &Options) -> Result<()> {
    let card = options.card.open()?;
    println!("{}", options.card.describe(&card)?);
    let channels = options.channels as usize;
    let begin = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..channels)
            .map(|channel| {
                scope.spawn({
                    let card = card.clone();
                    move || there_and_back(&card, channel, channels, options.rounds)
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|each| each.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let bytes = 2 * options.rounds * SCRATCH_SIZE;
    let seconds = begin.elapsed().as_secs_f64();
    println!("  {channels} threads, a channel of each direction each: {}", human::bandwidth(bytes, seconds));
    together(&card, channels)
}

/// One thread: its own channels, its own part of the scratch memory.
fn there_and_back(card: &Card, channel: usize, channels: usize, rounds: u64) -> Result<()> {
    let (mut h2c, mut c2h) = (card.h2c(channel)?, card.c2h(channel)?);
    let len = SCRATCH_SIZE / channels as u64;
    let at = SCRATCH_WINDOW + channel as u64 * len;
    let mut source = card.allocate(len, Direction::H2C)?;
    let sink = card.allocate(len, Direction::C2H)?;
    let mut seen = vec![0; len as usize];
    for round in 0..rounds {
        source.as_mut_slice::<u8>()?.fill((round * 4) as u8 | channel as u8);
        h2c.transfer(&source, 0..len, at, LIMIT)?;
        c2h.transfer(&sink, 0..len, at, LIMIT)?;
        sink.read(0, &mut seen)?;
        ensure!(source.as_mut_slice::<u8>()? == seen, "channel {channel} got other bytes than it wrote");
    }
    Ok(())
}

/// One thread, one transfer, all channels: a pool cuts it into parts.
fn together(card: &Card, channels: usize) -> Result<()> {
    let mut source = card.allocate(SCRATCH_SIZE, Direction::H2C)?;
    source.as_mut_slice::<u64>()?.iter_mut().zip(0..).for_each(|(word, at)| *word = at);
    let sink = card.allocate(SCRATCH_SIZE, Direction::C2H)?;
    for (memory, direction) in [(&source, Direction::H2C), (&sink, Direction::C2H)] {
        let open = |channel| match direction {
            Direction::H2C => card.h2c(channel),
            Direction::C2H => card.c2h(channel),
        };
        let mut pool = Pool::new((0..channels).map(open).collect::<Result<_, _>>()?)?;
        // It fails as a whole: after an error no channel still uses the memory.
        pool.transfer(memory, 0..SCRATCH_SIZE, SCRATCH_WINDOW, LIMIT).context("the pool failed")?;
        let parts: Vec<_> =
            pool.channels().map(|channel| human::bytes(channel.stats().bytes).to_string()).collect();
        println!("  one transfer over all {direction} channels: {}", parts.join(", "));
    }
    let mut seen = vec![0u64; SCRATCH_SIZE as usize / 8];
    sink.read(0, &mut seen)?;
    ensure!(seen == source.as_mut_slice::<u64>()?, "the card gave other bytes back than it was given");
    Ok(())
}
