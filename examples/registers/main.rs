//! Reads the user logic's registers by name, with their fields decoded, and writes one of them.
//!
//!     cargo run --release --example registers
//!     cargo run --release --example registers -- --card 0000:3b:00.0
//!
//! Typical output, shortened:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//!   0x000 image_id             0x4d534d01
//!   0x004 image_parameters     0x00110c10  stub=0 curve=1 adders=1 bucket_bits=12 segments=1
//!   ...
//!   0x224 status               0x00000000  busy=0 tasks_full=0 scalar_stalled=0 point_stalled=0 dropping=0
//!   wrote 0x1234 to the label register, read it back, and restored 0x0
//! ```
//!
//! Each line shows a register's offset in the user BAR, its name, its value, and its fields. Registers whose reads have side
//! effects are skipped.

use anyhow::{Result, ensure};
use clap::Parser;
use xdma::regs::map::{Block, Field};
use xdma::regs::msm::LABEL;
use xdma_examples::card::CardArgs;

/// Prints the registers of the MSM design, and writes one of them.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    card: CardArgs,
    /// Value to write to the label register, whose previous value is restored afterwards.
    #[arg(long, default_value_t = 0x1234)]
    label: u32,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    // By name: the register map provides offsets, access rules and fields.
    for reading in card.read_block(&Block::msm(), false)? {
        let Some(value) = reading.value else { continue };
        let field = |field: &Field| format!("{}={}", field.name.to_lowercase(), field.of(value as u32));
        let fields: Vec<_> = reading.register.fields.iter().map(field).collect();
        let name = reading.register.name.to_lowercase();
        println!("  {:#05x} {name:20} {value:#010x}  {}", reading.address, fields.join(" "));
    }
    // By offset: 32-bit words, checked against the size of the BAR. Writes are posted; the next read waits until they have arrived.
    let user = card.user()?;
    let before = user.read(LABEL)?;
    user.write(LABEL, args.label)?;
    let seen = user.read(LABEL)?;
    user.write(LABEL, before)?;
    ensure!(seen == args.label, "wrote {:#x} to the label register, but read {seen:#x}", args.label);
    println!("  wrote {seen:#x} to the label register, read it back, and restored {before:#x}");
    Ok(())
}
