//! The smallest useful program: bytes to the card's scratch memory and back, compared.
//!
//!     cargo run --release --example loopback -- --bytes 1048576

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::time::Duration;
use xdma::regs::Direction;
use xdma::regs::msm::{SCRATCH_SIZE, SCRATCH_WINDOW};
use xdma_examples::card::{CardArgs, Meter};
use xdma_examples::human;

/// Writes bytes to the card, reads them back, and compares.
#[derive(Parser)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// How many bytes, at most 1 MiB: the scratch memory of the MSM design.
    #[arg(long, default_value_t = 65536, value_parser = clap::value_parser!(u64).range(1..=SCRATCH_SIZE))]
    bytes: u64,
    /// Where on the card.
    #[arg(long, default_value_t = SCRATCH_WINDOW)]
    address: u64,
    /// H2C and C2H channel.
    #[arg(long, default_value_t = 0)]
    channel: usize,
}

fn main() -> Result<()> {
    run(&Options::parse())
}

pub fn run(options: &Options) -> Result<()> {
    let card = options.card.open()?;
    println!("{}", options.card.describe(&card)?);
    let (mut h2c, mut c2h) = (card.h2c(options.channel)?, card.c2h(options.channel)?);
    let data: Vec<u8> = (0..options.bytes).map(|at| (at ^ at >> 8).wrapping_mul(0x9d) as u8).collect();
    let mut source = card.allocate(options.bytes, Direction::H2C)?;
    source.write(0, &data)?;
    let sink = card.allocate(options.bytes, Direction::C2H)?;
    for (what, channel) in [("write", &mut h2c), ("read", &mut c2h)] {
        let meter = Meter::start(channel.stats());
        let ticket = match what {
            "write" => channel.submit(&source, 0..options.bytes, options.address)?,
            _ => channel.submit(&sink, 0..options.bytes, options.address)?,
        };
        channel
            .wait(ticket, Duration::from_secs(10))
            .with_context(|| format!("the {what} is not finished"))?;
        let (seconds, cost) = (meter.seconds(), meter.cost(channel.stats()));
        println!(
            "  {what:5} {} in {}: {} descriptors, {} doorbells, {} register writes, {} reads, {} system calls ({} ring)",
            human::bytes(options.bytes),
            human::seconds(seconds),
            cost.descriptors,
            cost.doorbells,
            cost.register_writes,
            cost.register_reads,
            cost.system_calls,
            channel.ring()
        );
    }
    let mut seen = vec![0u8; data.len()];
    sink.read(0, &mut seen)?;
    ensure!(seen == data, "the card gave other bytes back than it was given");
    println!("  the same {} came back", human::bytes(options.bytes));
    Ok(())
}
