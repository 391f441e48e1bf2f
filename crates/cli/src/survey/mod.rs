//! The command `xdma survey`: writes the description of a card.

mod engine;
mod observe;
mod probe;

pub use engine::{Ended, RawEngine};
pub use observe::observe;
pub use probe::probe;

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::{number, output};
use anyhow::Result;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// Number of bytes of card memory that the experiments may overwrite.
pub const SCRATCH_BYTES: u64 = 64 << 10;

#[derive(Args)]
pub struct Survey {
    #[command(flatten)]
    card: CardArgs,
    /// Also find out how the card behaves where no manual says, by small experiments on its first channels.
    #[arg(long, requires = "scratch")]
    probe: bool,
    /// With --probe: the card address of 64 KiB of memory that may be overwritten.
    #[arg(long, value_name = "ADDR", value_parser = number::parse)]
    scratch: Option<u64>,
    /// Write the description to this file instead of standard output.
    #[arg(long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
}

/// What each experiment does, for the help text.
pub const EXPERIMENTS: &str = "\
What is read without --probe: config space and read-only registers of the core, none of which has side effects. What --probe decides:
    channels.fixed_address   sets fixed-address mode on an idle channel and reads the alignments register
    channels.credits         halts descriptor fetch, adds a credit and reads it back
    busy_without_credits     starts a channel in credit mode without credits and reads BUSY
    busy_lag_us              runs one descriptor several times and watches BUSY after its write-back
    stop_clears_run          runs one descriptor with Stop and reads the Run bit
    unlogged_errors_stop     runs a misaligned descriptor in fixed-address mode with logging off, followed by a valid one
    error_write_back         lets the engine fetch a descriptor without its magic number and looks at the write-back
    aligned_fetch            runs a block of two descriptors across a 4 KiB boundary, several times
    stop_ends_idle_stream    posts a buffer to a quiet C2H stream and clears Run; only if the function has a reset
    narrow_stream_buffers    posts a buffer of one beat to a quiet C2H stream; only if the experiment before it succeeded
All but the stream experiments use memory-mapped channels and at most 64 KiB of card memory. Whatever cannot be decided is
written as \"unknown\": what BARs other than the register BAR hold, the design, and the memory behind the channels.";

impl Survey {
    pub fn run(&self, json: bool) -> Result<()> {
        if let Some(path) = &self.output {
            output::check_writable(path)?;
        }
        let mut file = observe(&self.card.open_as_found()?)?;
        if self.probe {
            let scratch = self.scratch.ok_or_else(|| Failure::Usage("--probe needs --scratch".into()))?;
            probe(&self.card.open()?, scratch, &mut file)?;
        }
        if let Some(path) = &self.output {
            return output::create(path)?.write_all(file.to_toml().as_bytes()).map_err(output::failed);
        }
        match json {
            true => output::line(&serde_json::to_string(&file)?),
            false => output::line(file.to_toml().trim_end()),
        }
    }
}
