//! Which card, and what a job on it cost.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};
use xdma::bus::counts::Counts;
use xdma::card::{Card, CardName, CardOptions};
use xdma::channel::Stats;
use xdma_emulated_card::{CardChoice, StartError};
use xdma_emulator::Options;
use xdma_emulator::logic::Design;

/// The option that every example has.
#[derive(Args, Clone, Debug)]
pub struct CardArgs {
    /// The card: a PCI address, unix:PATH of a vfio-user socket, or an emulated card (f1, alveo).
    #[arg(long, env = "XDMA_CARD", default_value = "f1", value_name = "BDF|unix:PATH|f1|alveo")]
    pub card: CardChoice,
    /// What an emulated card carries.
    #[arg(long, value_enum, default_value = "msm")]
    pub logic: LogicName,
    /// Write an FST trace of the simulated design to this file (feature `rtl-trace`).
    #[cfg(feature = "rtl")]
    #[arg(long, value_name = "FILE")]
    pub trace: Option<std::path::PathBuf>,
    /// How deep the trace goes: 2 has the core, 3 the adder, whose 256-bit words fill a disk; 0 has all.
    #[cfg(feature = "rtl")]
    #[arg(long, value_name = "LEVELS", default_value_t = 2, requires = "trace")]
    pub trace_levels: u8,
}

/// The logic of an emulated card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogicName {
    /// The MSM design's functional model.
    Msm,
    /// The MSM design itself, cycle by cycle.
    #[cfg(feature = "rtl")]
    Rtl,
}

impl CardArgs {
    /// Opens the card. What the library has to say goes to standard error.
    pub fn open(&self) -> Result<Card> {
        log();
        #[cfg(feature = "rtl")]
        anyhow::ensure!(
            self.trace.is_none() || matches!(self.logic, LogicName::Rtl),
            "`--trace` is for the simulated design: add `--logic rtl`"
        );
        let card = match self.logic {
            LogicName::Msm => self.card.open(CardOptions::default()),
            #[cfg(feature = "rtl")]
            LogicName::Rtl => self.open_rtl()?,
        };
        card.with_context(|| self.cannot_open())
    }

    fn cannot_open(&self) -> String {
        match &self.card {
            CardChoice::Named(CardName::Pci(_)) => {
                format!("cannot open card {} (`vfio-setup doctor` says what is missing)", self.card)
            }
            card => format!("cannot open card {card}"),
        }
    }

    /// Opens a card with AXI-Stream channels; an emulated one loops each H2C stream to the C2H stream of its number.
    pub fn open_streams(&self) -> Result<Card> {
        log();
        let card = match &self.card {
            CardChoice::Emulated(profile) => {
                let options = Options { profile: *profile, stream: true, ..Options::default() };
                xdma_emulated_card::start(options, Design::Loopback.build(), CardOptions::default())
            }
            CardChoice::Named(name) => name.open(CardOptions::default()).map_err(StartError::from),
        };
        card.with_context(|| self.cannot_open())
    }

    #[cfg(feature = "rtl")]
    fn open_rtl(&self) -> Result<Result<Card, StartError>> {
        use xdma_emulator::logic;
        let CardChoice::Emulated(profile) = self.card else {
            anyhow::bail!("`--logic rtl` is for an emulated card, and {} brings its own", self.card);
        };
        let options = Options { profile, ..Options::default() };
        let design = std::sync::Arc::new(logic::Rtl::new(logic::Variant::Full));
        if let Some(path) = &self.trace {
            let built = cfg!(feature = "rtl-trace");
            anyhow::ensure!(built, "`--trace` needs a model that can: build with `--features rtl-trace`");
            anyhow::ensure!(
                design.trace(path, self.trace_levels),
                "cannot write {}: is the folder there, and writable?",
                path.display()
            );
        }
        Ok(xdma_emulated_card::start(options, design, CardOptions::default()))
    }

    /// How long a transfer or a result may take. A simulated design takes seconds for milliseconds of its clock.
    pub fn patience(&self) -> Duration {
        match self.logic {
            LogicName::Msm => Duration::from_secs(10),
            #[cfg(feature = "rtl")]
            LogicName::Rtl => Duration::from_secs(600),
        }
    }

    /// The card in one line.
    pub fn describe(&self, card: &Card) -> Result<String> {
        let report = card.report()?;
        let emulated = if matches!(self.card, CardChoice::Emulated(_)) { "emulated " } else { "" };
        Ok(format!(
            "{emulated}{} ({:04x}:{:04x} over {})",
            self.card, report.vendor, report.device, report.bus.kind
        ))
    }
}

/// What the library has to say goes to standard error.
fn log() {
    let asked = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let layer =
        fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).without_time().with_target(false);
    // Only the first call of a process sets it.
    let _ = registry().with(layer.with_filter(filter)).try_init();
}

/// What was asked of hardware and kernel by this thread and a channel, from one moment to another.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Descriptors given to the engine.
    pub descriptors: u64,
    /// Credit and Run writes.
    pub doorbells: u64,
    /// All register writes.
    pub register_writes: u64,
    /// Register reads.
    pub register_reads: u64,
    /// Entries into the kernel.
    pub system_calls: u64,
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors + other.descriptors,
            doorbells: self.doorbells + other.doorbells,
            register_writes: self.register_writes + other.register_writes,
            register_reads: self.register_reads + other.register_reads,
            system_calls: self.system_calls + other.system_calls,
        }
    }
}

/// The moment from which a [`Cost`] counts.
pub struct Meter {
    counts: Counts,
    stats: Stats,
    begin: Instant,
}

impl Meter {
    /// Counts from now on.
    pub fn start(stats: Stats) -> Self {
        Self { counts: Counts::now(), stats, begin: Instant::now() }
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// What it cost so far.
    pub fn cost(&self, stats: Stats) -> Cost {
        let counts = Counts::now() - self.counts;
        Cost {
            descriptors: stats.descriptors - self.stats.descriptors,
            doorbells: stats.doorbells - self.stats.doorbells,
            register_writes: counts.register_writes,
            register_reads: counts.register_reads,
            system_calls: counts.system_calls,
        }
    }
}
