//! Uses several channels at the same time: first one thread per channel, then one transfer that is split across all channels.
//!
//!     cargo run --release --example multi_channel -- --channels 4
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//!   4 threads, each with an H2C and a C2H channel: 422.53 MB/s
//!   one transfer over all H2C channels: 256.00 KiB, 256.00 KiB, 256.00 KiB, 256.00 KiB
//!   one transfer over all C2H channels: 256.00 KiB, 256.00 KiB, 256.00 KiB, 256.00 KiB
//! ```
//!
//! The first line counts the bytes of both directions. The other lines show how many bytes each channel moved.
//!
//! The rules: a `Card` is a handle, which threads can clone and share. A `Channel` has one owner at a time: it can be moved to
//! another thread but not shared, so it needs no lock. A buffer can be used on any channel of its card. Transfers of one channel
//! finish in order; transfers of different channels finish in any order.

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

/// Uses several channels at the same time.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    card: CardArgs,
    /// Number of channels of each direction.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    channels: u32,
    /// Number of times that each thread writes and reads its part of the scratch memory.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    let channels = args.channels as usize;
    let begin = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..channels)
            .map(|channel| {
                scope.spawn({
                    let card = card.clone();
                    move || round_trips(&card, channel, channels, args.rounds)
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let bytes = 2 * args.rounds * SCRATCH_SIZE;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "  {channels} threads, each with an H2C and a C2H channel: {}",
        human::bandwidth(bytes, seconds)
    );
    split_transfer(&card, channels)
}

/// The work of one thread, with its own channels and its own part of the scratch memory.
fn round_trips(card: &Card, channel: usize, channels: usize, rounds: u64) -> Result<()> {
    let (mut h2c, mut c2h) = (card.h2c(channel)?, card.c2h(channel)?);
    let len = SCRATCH_SIZE / channels as u64;
    let address = SCRATCH_WINDOW + channel as u64 * len;
    let mut source = card.allocate(len, Direction::H2C)?;
    let sink = card.allocate(len, Direction::C2H)?;
    let mut received = vec![0; len as usize];
    for round in 0..rounds {
        source.as_mut_slice::<u8>()?.fill((round * 4) as u8 | channel as u8);
        h2c.transfer(&source, 0..len, address, LIMIT)?;
        c2h.transfer(&sink, 0..len, address, LIMIT)?;
        sink.read(0, &mut received)?;
        ensure!(source.as_mut_slice::<u8>()? == received, "channel {channel} read other bytes than it wrote");
    }
    Ok(())
}

/// One transfer on all channels: a pool splits it into one part for each.
fn split_transfer(card: &Card, channels: usize) -> Result<()> {
    let mut source = card.allocate(SCRATCH_SIZE, Direction::H2C)?;
    source.as_mut_slice::<u64>()?.iter_mut().zip(0..).for_each(|(word, at)| *word = at);
    let sink = card.allocate(SCRATCH_SIZE, Direction::C2H)?;
    for (buffer, direction) in [(&source, Direction::H2C), (&sink, Direction::C2H)] {
        let open = |channel| match direction {
            Direction::H2C => card.h2c(channel),
            Direction::C2H => card.c2h(channel),
        };
        let mut pool = Pool::new((0..channels).map(open).collect::<Result<_, _>>()?)?;
        // Statistics belong to the card's channel, and include the transfers of the threads above.
        let bytes = |pool: &Pool| pool.channels().map(|channel| channel.stats().bytes).collect::<Vec<_>>();
        let before = bytes(&pool);
        // The transfer fails as a whole: after an error, no channel uses the buffer any more.
        pool.transfer(buffer, 0..SCRATCH_SIZE, SCRATCH_WINDOW, LIMIT).context("the pool failed")?;
        let parts = bytes(&pool).into_iter().zip(before).map(|(now, before)| now - before);
        let parts: Vec<_> = parts.map(|part| human::bytes(part).to_string()).collect();
        println!("  one transfer over all {direction} channels: {}", parts.join(", "));
    }
    let mut received = vec![0u64; SCRATCH_SIZE as usize / 8];
    sink.read(0, &mut received)?;
    ensure!(
        received == source.as_mut_slice::<u64>()?,
        "the bytes read from the card differ from those written"
    );
    Ok(())
}
