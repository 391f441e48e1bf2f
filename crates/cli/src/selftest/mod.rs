//! The command `xdma selftest`: the first tests of a new card, in order, until one fails.

mod difference;
mod interrupts;
mod load;
mod path;
mod report;
mod steps;

use crate::card::{CardArgs, is_emulated};
use crate::failure::{self, Failure};
use crate::interrupt::Interrupt;
use crate::number;
use crate::survey::{check_scratch, observe};
use anyhow::{Error, Result};
use clap::Args;
use report::{Finding, Report};
use std::path::PathBuf;
use std::time::Duration;
use xdma::card::{BusError, Card, CardError};
use xdma::channel::EngineError;
use xdma_emulator::CardFile;

#[derive(Args)]
pub struct Selftest {
    #[command(flatten)]
    card: CardArgs,
    /// The card address of 64 KiB of memory that may be overwritten. Without it, no data is moved through memory-mapped channels.
    #[arg(long, value_name = "ADDR", value_parser = number::parse)]
    scratch: Option<u64>,
    /// The card has AXI-Stream channels, and its user logic returns the data of each H2C channel on the C2H channel of the same
    /// number. Without this option, no data is sent on streams.
    #[arg(long)]
    loopback: bool,
    /// Also test the function-level reset, if the function has one. A reset may clear the state of the user logic.
    #[arg(long)]
    reset: bool,
    /// Duration of the load test.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = number::seconds)]
    load: Duration,
    /// Write the report to this file too.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The steps, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Identity,
    Link,
    Idle,
    Register,
    WriteBack,
    Descriptor,
    Behaviour,
    Rings,
    Interrupts,
    Sizes,
    Load,
    Reset,
}

impl Step {
    const ALL: [Self; 12] = [
        Self::Identity,
        Self::Link,
        Self::Idle,
        Self::Register,
        Self::WriteBack,
        Self::Descriptor,
        Self::Behaviour,
        Self::Rings,
        Self::Interrupts,
        Self::Sizes,
        Self::Load,
        Self::Reset,
    ];

    /// Returns the name of the step in reports.
    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Link => "link",
            Self::Idle => "idle",
            Self::Register => "register",
            Self::WriteBack => "write-back",
            Self::Descriptor => "descriptor",
            Self::Behaviour => "behaviour",
            Self::Rings => "rings",
            Self::Interrupts => "interrupts",
            Self::Sizes => "sizes",
            Self::Load => "load",
            Self::Reset => "reset",
        }
    }

    /// Returns what a failure of this step usually means.
    fn meaning(self) -> &'static str {
        match self {
            Self::Identity => {
                "the FPGA has no image with an XDMA core, the PCI bus was not rescanned after the image was loaded, or another BAR holds \
                 the registers (--register-bar)"
            }
            Self::Link => {
                "the link is not trained: reseat the card, or look at the root port with `lspci -vv`"
            }
            Self::Idle => {
                "an engine is still busy with a transfer of an earlier program, or waits for user logic that does not respond: reset the \
                 card or load the image again"
            }
            Self::Register => {
                "this is not the register BAR, or a bridge in front of the core alters accesses"
            }
            Self::WriteBack => {
                "the engine cannot read its descriptors or their data, cannot reach the card's memory, or its writes do not reach host \
                 memory: look for IOMMU faults in the kernel log, and check --scratch"
            }
            Self::Descriptor => {
                "data is lost or changed between host and card: there is less than 64 KiB of memory at --scratch, or the user logic \
                 changes the data"
            }
            Self::Behaviour => {
                "the card differs from the description given with --card-file: survey this card with `xdma survey --probe`, and \
                 use that description"
            }
            Self::Rings => {
                "single descriptors work, but lists of several do not, chained or with descriptor credits: use the other ring, if that \
                 works (`ChannelOptions::ring`)"
            }
            Self::Interrupts => {
                "interrupts are lost, late or repeated: use a `Wait` mode that polls, and check /proc/interrupts, interrupt remapping and \
                 the core's interrupt options"
            }
            Self::Sizes => {
                "the core or the user logic requires an alignment of addresses or lengths that the registers do not state"
            }
            Self::Load => {
                "errors appear only under load: suspect the timing of the design, the power supply or the link; look for AER errors in \
                 the kernel log"
            }
            Self::Reset => "a reset does not do what the driver needs: do not use `Card::reset` on this card",
        }
    }
}

/// What it usually means that registers suddenly read all ones.
const GONE: &str = "the card left the bus: power, the link, or an image that was loaded meanwhile";

impl Selftest {
    pub fn run(&self, json: bool) -> Result<()> {
        let interrupt = Interrupt::install()?;
        self.scratch.map_or(Ok(()), check_scratch)?;
        let mut report = Report::new(&self.card.choice()?.to_string(), self.report.as_deref(), json)?;
        let ended = self.run_steps(&mut report, interrupt);
        report.finish()?;
        ended
    }

    /// Runs the steps until one fails.
    fn run_steps(&self, report: &mut Report, interrupt: Interrupt) -> Result<()> {
        let settings = self.settings(interrupt);
        let mut ended = Ok(());
        // Opened only once the card has been identified without changing it.
        let mut open: Option<(Card, CardFile)> = None;
        for step in Step::ALL {
            if ended.is_err() {
                report.add(step, Finding::NotRun)?;
                continue;
            }
            let found =
                settings.interrupt.check().map_err(Error::from).and_then(|()| match (step, &mut open) {
                    (Step::Identity | Step::Link, _) => self.inspect(step, report),
                    (_, None) => self.open(report).map(|(opened, seen)| {
                        open = Some(opened);
                        seen
                    }),
                    (_, Some((card, file))) => steps::run(step, &settings, card, file),
                });
            if let Some((_, file)) = &open {
                report.survey = Some(file.clone());
            }
            let finding = found.or_else(|error| self.explain(step, error))?;
            ended = match finding {
                Finding::Failed(..) => Err(Failure::SelftestFailed(step.name()).into()),
                Finding::Interrupted => Err(Failure::Interrupted.into()),
                _ => Ok(()),
            };
            report.add(step, finding)?;
        }
        ended
    }

    /// Returns what an error says about the card. An error that says nothing about it, such as that it is in use, is returned.
    fn explain(&self, step: Step, error: Error) -> Result<Finding> {
        let causes = || error.chain().map(failure::innermost);
        if causes().any(|cause| matches!(cause.downcast_ref(), Some(Failure::Interrupted))) {
            return Ok(Finding::Interrupted);
        }
        let gone = causes().any(|cause| {
            matches!(cause.downcast_ref(), Some(CardError::Gone { .. }))
                || matches!(cause.downcast_ref(), Some(EngineError::Gone { .. }))
                || matches!(cause.downcast_ref(), Some(BusError::Gone { .. }))
        });
        if step == Step::Identity && !gone && causes().any(|cause| cause.is::<BusError>()) {
            return Err(error);
        }
        let meaning = match (gone, step) {
            (true, _) => GONE,
            (false, Step::Behaviour) if self.card.description().is_none() => {
                "an experiment of `survey --probe` did not end as on other cards: reset the card, and send its report with the survey"
            }
            (false, step) => step.meaning(),
        };
        Ok(Finding::Failed(failure::text(&error), meaning))
    }

    fn settings(&self, interrupt: Interrupt) -> steps::Settings {
        steps::Settings {
            scratch: self.scratch,
            loopback: self.loopback,
            reset: self.reset,
            load: self.load,
            expected: self.card.description().cloned(),
            interrupt,
        }
    }

    /// The steps that only read.
    fn inspect(&self, step: Step, report: &mut Report) -> Result<Finding> {
        let card = self.card.open_as_found()?;
        let file = observe(&card)?;
        report.emulated = is_emulated(&card.report()?);
        let seen = match step {
            Step::Identity => steps::identity(&card, &file, self.card.description()),
            _ => steps::link(&file),
        };
        report.survey = Some(file);
        seen
    }

    /// Opens the card, which stops all engines.
    fn open(&self, report: &Report) -> Result<((Card, CardFile), Finding)> {
        let card = self.card.open()?;
        let file = report.survey.clone().expect("the step `identity` surveyed the card");
        let seen = steps::idle(&card)?;
        Ok(((card, file), seen))
    }
}
