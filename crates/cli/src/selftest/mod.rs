//! The command `xdma selftest`: what to do first with a new card, in order, until something is not as expected.

mod path;
mod report;
mod steps;

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::survey::observe;
use crate::{number, output};
use anyhow::Result;
use clap::Args;
use report::{Finding, Report};
use std::path::PathBuf;
use std::time::Duration;
use xdma::card::Card;
use xdma_emulator::CardFile;

#[derive(Args)]
pub struct Selftest {
    #[command(flatten)]
    card: CardArgs,
    /// The card address of 64 KiB of memory that may be overwritten. Without it, no data is moved to memory-mapped channels.
    #[arg(long, value_name = "ADDR", value_parser = number::parse)]
    scratch: Option<u64>,
    /// On a card with AXI-Stream channels, the user logic sends what each H2C channel sends back to the C2H channel of the same
    /// number. Without it, no data is moved on streams.
    #[arg(long)]
    loopback: bool,
    /// Also reset the function, if it has a reset. The design starts anew, as after power-up.
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

    /// Returns what a surprise in this step usually means.
    fn meaning(self) -> &'static str {
        match self {
            Self::Identity => {
                "the FPGA has no image with an XDMA core, the function was not rescanned after the image was loaded, or another BAR \
                 holds the registers"
            }
            Self::Link => "the card is not trained: reseat it, or look at the root port with `lspci -vv`",
            Self::Idle => {
                "an engine still works for an earlier user, or waits for user logic that does not answer: reset the card or load the \
                 image again"
            }
            Self::Register => {
                "this is not the register BAR, or a bridge in front of the core changes accesses"
            }
            Self::WriteBack => {
                "the engine cannot read its descriptors or their data, cannot reach the card's memory, or its writes do not reach host \
                 memory: look for IOMMU faults in the kernel log, and check --scratch"
            }
            Self::Descriptor => {
                "data is lost or changed between host and card: there is no memory, or less, at --scratch, or the user logic changes it"
            }
            Self::Behaviour => {
                "the card differs from the description given with --card-file, so an emulated card like it would mislead: survey this \
                 card, and use that description"
            }
            Self::Rings => {
                "the core handles several descriptors, or descriptor credits, differently from one descriptor at a time"
            }
            Self::Interrupts => {
                "interrupts are lost, late or repeated: use a polling wait, and look at /proc/interrupts, at interrupt remapping and \
                 at the core's interrupt options"
            }
            Self::Sizes => {
                "the core or the user logic needs aligned addresses or lengths that it does not state"
            }
            Self::Load => {
                "errors appear only under load: timing of the design, power, or the link; look at AER errors in the kernel log"
            }
            Self::Reset => "a reset is not what the driver relies on: do not use `Card::reset` on this card",
        }
    }
}

impl Selftest {
    pub fn run(&self, json: bool) -> Result<()> {
        let mut report = Report::new(&self.card.card.to_string());
        let surprise = self.run_steps(&mut report);
        let text = report.text();
        if let Some(path) = &self.report {
            use std::io::Write;
            output::create(path)?.write_all(format!("{text}\n").as_bytes()).map_err(output::failed)?;
        }
        output::line(&if json { report.json().to_string() } else { text })?;
        match surprise {
            Some(step) => Err(Failure::Surprise(step.name()).into()),
            None => Ok(()),
        }
    }

    /// Runs the steps until the first surprise, and returns its step.
    fn run_steps(&self, report: &mut Report) -> Option<Step> {
        let mut stopped = None;
        // Opened only once the card has been identified without changing it.
        let mut open: Option<(Card, CardFile)> = None;
        for step in Step::ALL {
            if stopped.is_some() {
                report.add(step, Finding::NotRun);
                continue;
            }
            let found = match (step, &mut open) {
                (Step::Identity | Step::Link, _) => self.inspect(step, report),
                (_, None) => self.open(report).map(|(opened, seen)| {
                    open = Some(opened);
                    seen
                }),
                (_, Some((card, file))) => steps::run(step, &self.settings(), card, file),
            };
            if let Some((_, file)) = &open {
                report.survey = Some(file.clone());
            }
            match found {
                Ok(finding) => report.add(step, finding),
                Err(error) => {
                    report.add(step, Finding::Surprise(crate::failure::text(&error)));
                    stopped = Some(step);
                }
            }
        }
        stopped
    }

    fn settings(&self) -> steps::Settings {
        steps::Settings {
            scratch: self.scratch,
            loopback: self.loopback,
            reset: self.reset,
            load: self.load,
            expected: self.card.description().cloned(),
        }
    }

    /// The steps that only read.
    fn inspect(&self, step: Step, report: &mut Report) -> Result<Finding> {
        let card = self.card.open_as_found()?;
        let file = observe(&card)?;
        report.emulated = card.report()?.bus.kind == "vfio-user";
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
