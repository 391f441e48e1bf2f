//! The command `xdma survey`: writes the description of a card.

mod engine;
mod observe;
mod probe;

pub use engine::{Ended, RawEngine};
pub use observe::observe;
pub use probe::{Experiments, check_scratch};

use crate::card::CardArgs;
use crate::failure::{self, Failure};
use crate::interrupt::Interrupt;
use crate::{file, number, output};
use anyhow::Result;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use xdma_emulator::CardFile;

/// Number of bytes of card memory that the experiments may overwrite.
pub const SCRATCH_BYTES: u64 = 64 << 10;

#[derive(Args)]
pub struct Survey {
    #[command(flatten)]
    card: CardArgs,
    /// Also determine behaviour that no manual specifies, by small experiments on the card's first channels.
    #[arg(long)]
    probe: bool,
    /// With --probe: the card address of 64 KiB of memory that may be overwritten.
    #[arg(long, value_name = "ADDR", value_parser = number::parse, requires = "probe")]
    scratch: Option<u64>,
    /// With --probe: also experiment with the first C2H stream. What arrives on it meanwhile is lost, and the function may be reset.
    #[arg(long, requires = "probe")]
    streams: bool,
    /// Write the description to this file instead of standard output.
    #[arg(long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
}

/// What each experiment does, for the help text.
pub const EXPERIMENTS: &str = "\
Without --probe, only config space and registers of the core are read,
and only those whose reads have no side effects. (When a card on
vfio-pci is opened, the kernel resets the function if it has a reset.)
--probe stops all engines, and then determines by experiment:
    channels.fixed_address   sets fixed-address mode on an idle channel
                             and reads the alignments register
    channels.credits         halts descriptor fetch, adds a credit and
                             reads it back
    busy_without_credits     starts a channel in credit mode without
                             credits and reads BUSY
    busy_lag_us              runs one descriptor several times and
                             watches BUSY after its write-back
    stop_clears_run          runs one descriptor with Stop and reads the
                             Run bit
    unlogged_errors_stop     runs a misaligned descriptor in
                             fixed-address mode with logging off,
                             followed by a valid one
    error_write_back         lets the engine fetch a descriptor without
                             its magic number and looks at the
                             write-back
    aligned_fetch            runs a block of two descriptors across a 4
                             KiB boundary, several times
    stop_ends_idle_stream    posts a buffer to a quiet C2H stream and
                             clears Run; only with --streams, and if the
                             function has a reset
    narrow_stream_buffers    posts a buffer of one beat to a quiet C2H
                             stream; only if clearing Run ended the
                             previous experiment
channels.credits, busy_without_credits and error_write_back move no
data, and run on stream channels too. The other experiments, except the
last two, need memory-mapped channels, and use at most 64 KiB of card
memory. Whatever cannot be determined is written as \"unknown\"; this
always applies to the design, the memory behind the channels, and BARs
other than the register BAR.";

impl Survey {
    pub fn run(&self, json: bool) -> Result<()> {
        let interrupt = Interrupt::install()?;
        if let Some(path) = &self.output {
            file::check_writable(path)?;
        }
        self.scratch.map_or(Ok(()), check_scratch)?;
        let mut file = observe(&self.card.open_as_found()?)?;
        let probed = if self.probe { self.probe(&mut file, &interrupt) } else { Ok(()) };
        if let Err(error) = &probed {
            file.notes.push(format!("the experiments ended early: {}", failure::text(error)));
        }
        self.write(&file, json)?;
        probed
    }

    fn probe(&self, file: &mut CardFile, interrupt: &Interrupt) -> Result<()> {
        let scratch = match self.scratch {
            Some(scratch) => scratch,
            None if file.is_stream() => 0,
            None => return Err(Failure::Usage("--probe needs --scratch".into()).into()),
        };
        Experiments { scratch, streams: self.streams, interrupt }.run(&self.card.open()?, file)
    }

    fn write(&self, description: &CardFile, json: bool) -> Result<()> {
        match (&self.output, json) {
            (Some(path), _) => {
                let text = description.to_toml();
                file::create(path)?.write_all(text.as_bytes()).map_err(file::cannot("write", path))?;
                Ok(())
            }
            (None, true) => output::line(&serde_json::to_string(&description)?),
            (None, false) => output::line(description.to_toml().trim_end()),
        }
    }
}
