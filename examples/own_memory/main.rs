//! Transfers existing memory: the card reads and writes a program's own `Vec`, and the program gets it back afterwards.
//!
//!     cargo run --release --example own_memory -- --elements 1000000
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//!   30.52 MiB to the card and back; 30.52 MiB of the source were staged
//!   the program owns both vectors again, and they are equal
//! ```
//!
//! Under VFIO with an IOMMU, the pages of the vectors are pinned where they are, and little or nothing is staged. Where pages
//! cannot be pinned (vfio-user, or no IOMMU), the library stages the data: it copies it through memory that the card can reach. The
//! program is the same in both cases.

use anyhow::{Result, ensure};
use clap::Parser;
use std::time::Duration;
use xdma::regs::Direction;
use xdma::regs::msm::{SCRATCH_SIZE, SCRATCH_WINDOW};
use xdma_examples::card::CardArgs;
use xdma_examples::human;

const LIMIT: Duration = Duration::from_secs(10);
/// 32 bytes, the size of a scalar.
type Element = [u64; 4];

/// Copies a vector to the card's scratch memory and back into another vector.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    card: CardArgs,
    /// Number of elements, 32 bytes each. They are transferred in parts that fit into the scratch memory.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1 << 26))]
    elements: u64,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    let (mut h2c, mut c2h) = (card.h2c(0)?, card.c2h(0)?);
    // An ordinary vector, wherever the allocator placed it.
    let sent: Vec<Element> = (0..args.elements).map(|at| [at, !at, at << 7, at ^ 0x5a]).collect();
    let pointer = sent.as_ptr();
    // Registering takes ownership, so the vector cannot be changed or freed during a transfer. It stays readable.
    let source = card.register(sent, Direction::H2C)?;
    ensure!(source.as_slice()?.as_ptr() == pointer, "the vector was moved");
    let sink = card.register(vec![[0u64; 4]; args.elements as usize], Direction::C2H)?;
    let bytes = args.elements * size_of::<Element>() as u64;
    for start in (0..bytes).step_by(SCRATCH_SIZE as usize) {
        let part = start..bytes.min(start + SCRATCH_SIZE);
        h2c.transfer(&source, part.clone(), SCRATCH_WINDOW, LIMIT)?;
        c2h.transfer(&sink, part, SCRATCH_WINDOW, LIMIT)?;
    }
    println!(
        "  {} to the card and back; {} of the source were staged",
        human::bytes(bytes),
        human::bytes(source.staged_bytes())
    );
    // Unmaps the memory and returns the same allocation, without a copy.
    let sent = source.into_inner().map_err(|(_, error)| error)?;
    let received = sink.into_inner().map_err(|(_, error)| error)?;
    ensure!(sent.as_ptr() == pointer, "another vector was returned");
    ensure!(sent == received, "the elements read from the card differ from those written");
    println!("  the program owns both vectors again, and they are equal");
    Ok(())
}
