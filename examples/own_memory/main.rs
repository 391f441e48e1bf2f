//! Memory that is there already: a program's own `Vec`, lent to the card where it lies and given back.
//!
//!     cargo run --example own_memory -- --elements 1000000
//!
//! Under VFIO with an IOMMU its pages are pinned in place; where nothing can pin them (vfio-user, no IOMMU) they are copied
//! through hugepages, and the program is the same.

use anyhow::{Result, ensure};
use clap::Parser;
use std::time::Duration;
use xdma::regs::Direction;
use xdma::regs::msm::{SCRATCH_SIZE, SCRATCH_WINDOW};
use xdma_examples::card::CardArgs;
use xdma_examples::human;

const LIMIT: Duration = Duration::from_secs(10);
/// 32 bytes, as a scalar has.
type Element = [u64; 4];

/// Moves a vector to the card's scratch memory and into another one.
#[derive(Parser)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// How many elements of 32 bytes; they go in parts that fit into the scratch memory.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1 << 26))]
    elements: u64,
}

fn main() -> Result<()> {
    run(&Options::parse())
}

pub fn run(options: &Options) -> Result<()> {
    let card = options.card.open()?;
    println!("{}", options.card.describe(&card)?);
    let (mut h2c, mut c2h) = (card.h2c(0)?, card.c2h(0)?);
    // What the program made, wherever its allocator put it.
    let ours: Vec<Element> = (0..options.elements).map(|at| [at, !at, at << 7, at ^ 0x5a]).collect();
    let place = ours.as_ptr();
    // Given to the card by value, so nobody can change it or free it under a transfer. Still readable.
    let source = card.register(ours, Direction::H2C)?;
    ensure!(source.as_slice()?.as_ptr() == place, "the vector was moved");
    let sink = card.register(vec![[0u64; 4]; options.elements as usize], Direction::C2H)?;
    let bytes = options.elements * size_of::<Element>() as u64;
    for start in (0..bytes).step_by(SCRATCH_SIZE as usize) {
        let part = start..bytes.min(start + SCRATCH_SIZE);
        h2c.transfer(&source, part.clone(), SCRATCH_WINDOW, LIMIT)?;
        c2h.transfer(&sink, part, SCRATCH_WINDOW, LIMIT)?;
    }
    println!(
        "  {} there and back; {} of them staged",
        human::bytes(bytes),
        human::bytes(source.staged_bytes())
    );
    // Unmapped, then given back: the same allocation, without a copy.
    let ours = source.into_inner().map_err(|(_, error)| error)?;
    let theirs = sink.into_inner().map_err(|(_, error)| error)?;
    ensure!(ours.as_ptr() == place, "another vector came back");
    ensure!(ours == theirs, "the card gave other elements back than it was given");
    println!("  both vectors are the program's again, and equal");
    Ok(())
}
