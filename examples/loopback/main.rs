//! The smallest useful program: writes bytes to the card's memory, reads them back, and compares them.
//!
//!     cargo run --release --example loopback -- --bytes 1048576
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//!   write 1.00 MiB in 7.53ms; descriptors: 1, doorbells: 1, register writes: 1, register reads: 0, system calls: 1 (credits ring)
//!   read  1.00 MiB in 6.42ms; descriptors: 1, doorbells: 1, register writes: 1, register reads: 0, system calls: 1 (credits ring)
//!   1.00 MiB came back unchanged
//! ```
//!
//! A buffer that is contiguous for the card needs one descriptor, whatever its size. One register write, the doorbell, starts it.
//! No register is read, since the card reports the completion in host memory. The system call carries the register write over the
//! vfio-user socket of the emulated card; under `vfio-pci` there is none.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::time::Duration;
use xdma::regs::Direction;
use xdma::regs::msm::{SCRATCH_SIZE, SCRATCH_WINDOW};
use xdma::unstable::channel::counts;
use xdma_examples::card::{CardArgs, Meter};
use xdma_examples::human;

/// Writes bytes to the card, reads them back, and compares them.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    card: CardArgs,
    /// Number of bytes, at most 1 MiB, which is the size of the MSM design's scratch memory.
    #[arg(long, default_value_t = 65536, value_parser = clap::value_parser!(u64).range(1..=SCRATCH_SIZE))]
    bytes: u64,
    /// Address on the card.
    #[arg(long, default_value_t = SCRATCH_WINDOW)]
    address: u64,
    /// Number of the H2C channel and of the C2H channel.
    #[arg(long, default_value_t = 0)]
    channel: usize,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    let (mut h2c, mut c2h) = (card.h2c(args.channel)?, card.c2h(args.channel)?);
    let data: Vec<u8> = (0..args.bytes).map(|at| (at ^ at >> 8).wrapping_mul(0x9d) as u8).collect();
    // Buffers are memory that the card can reach. The card only reads `source` and only writes `sink`.
    let mut source = card.allocate(args.bytes, Direction::H2C)?;
    source.write(0, &data)?;
    let sink = card.allocate(args.bytes, Direction::C2H)?;
    for (what, channel, buffer) in [("write", &mut h2c, &source), ("read", &mut c2h, &sink)] {
        let meter = Meter::start(channel.stats(), counts(channel));
        // `submit` starts the transfer and returns immediately; `wait` blocks until it is finished.
        let ticket = channel.submit(buffer, 0..args.bytes, args.address)?;
        channel
            .wait(ticket, Duration::from_secs(10))
            .with_context(|| format!("the {what} did not finish"))?;
        let (seconds, cost) = (meter.seconds(), meter.cost(channel.stats(), counts(channel)));
        println!(
            "  {what:5} {} in {}; descriptors: {}, doorbells: {}, register writes: {}, register reads: {}, system calls: {} ({} ring)",
            human::bytes(args.bytes),
            human::seconds(seconds),
            cost.descriptors,
            cost.doorbells,
            cost.register_writes,
            cost.register_reads,
            cost.system_calls,
            channel.ring()
        );
    }
    let mut received = vec![0u8; data.len()];
    sink.read(0, &mut received)?;
    ensure!(received == data, "the bytes read from the card differ from those written");
    println!("  {} came back unchanged", human::bytes(args.bytes));
    Ok(())
}
