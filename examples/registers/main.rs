//! The user logic's registers: read by name, decoded, written and read back.
//!
//!     cargo run --example registers
//!     cargo run --example registers -- --card 0000:3b:00.0

use anyhow::{Result, ensure};
use clap::Parser;
use xdma::regs::map::{Block, Field};
use xdma::regs::msm::LABEL;
use xdma_examples::card::CardArgs;

/// Shows the registers of the MSM design, and writes one.
#[derive(Parser)]
pub struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// What to write to the label register, which is put back afterwards.
    #[arg(long, default_value_t = 0x1234)]
    label: u32,
}

fn main() -> Result<()> {
    run(&Options::parse())
}

pub fn run(options: &Options) -> Result<()> {
    let card = options.card.open()?;
    println!("{}", options.card.describe(&card)?);
    // By name: offsets, access and fields come from the register map.
    for reading in card.read_block(&Block::msm(), false)? {
        let Some(value) = reading.value else { continue };
        let field = |field: &Field| format!("{}={}", field.name.to_lowercase(), field.of(value as u32));
        let fields: Vec<_> = reading.register.fields.iter().map(field).collect();
        let name = reading.register.name.to_lowercase();
        println!("  {:#05x} {name:20} {value:#010x}  {}", reading.address, fields.join(" "));
    }
    // By offset: 32-bit words, checked against the BAR. A write is posted, and the read after it waits for it.
    let user = card.user()?;
    let before = user.read(LABEL)?;
    user.write(LABEL, options.label)?;
    let seen = user.read(LABEL)?;
    user.write(LABEL, before)?;
    ensure!(seen == options.label, "wrote {:#x} to the label register, read {seen:#x}", options.label);
    println!("  wrote {seen:#x} to the label register, read it back, and put {before:#x} there again");
    Ok(())
}
