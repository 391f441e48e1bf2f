//! The options `--card` and `--cards`, and the cost of transfers.

use crate::human::help_width;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};
use xdma::card::{Card, CardName, CardOptions};
use xdma::channel::Stats;
// Only for the figures that the examples print. A program does not need these counts.
use xdma::unstable::bus::counts::Counts;
use xdma_emulated_card::{CardChoice, StartError, described, find_description};
use xdma_emulator::logic::{Design, Logic, MsmModelOptions};
use xdma_emulator::{CardFile, EmulatorOptions};

/// The options of an example that uses one card.
#[derive(Args, Clone, Debug)]
pub struct CardArgs {
    /// The card: a PCI address, unix:PATH of a vfio-user socket, or an emulated card: f1, alveo, or a file that describes one
    /// [default: f1, if this machine has no XDMA card].
    #[arg(long, env = "XDMA_CARD", value_name = "BDF|unix:PATH|NAME|FILE.toml")]
    pub card: Option<CardChoice>,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

/// The options of an example that uses one card or several.
#[derive(Args, Clone, Debug)]
pub struct CardsArgs {
    /// The card: a PCI address, unix:PATH of a vfio-user socket, or an emulated card: f1, alveo, or a file that describes one.
    /// Repeat it for several cards [default: f1, if this machine has no XDMA card].
    #[arg(long, env = "XDMA_CARD", value_name = "BDF|unix:PATH|NAME|FILE.toml")]
    pub card: Vec<CardChoice>,
    /// Number of emulated cards like --card.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub cards: Option<u8>,
    #[command(flatten)]
    pub opening: OpeningArgs,
}

/// The options for opening a card.
#[derive(Args, Clone, Debug)]
#[command(term_width = help_width())]
pub struct OpeningArgs {
    /// A description of a real card, which names its BARs: `xdma survey` writes one.
    #[arg(long, value_name = "NAME|FILE.toml", value_parser = find_description)]
    pub card_file: Option<CardFile>,
    /// The BAR with the XDMA registers, 0 to 5 [default: found by MSI-X capability or identifiers].
    #[arg(long, value_name = "N")]
    pub register_bar: Option<usize>,
    /// The BAR with the user logic's registers, 0 to 5 [default: the first one before the XDMA registers].
    #[arg(long, value_name = "N")]
    pub user_bar: Option<usize>,
    /// The user logic of an emulated card.
    #[arg(long, value_enum, default_value = "msm")]
    pub logic: LogicName,
    /// The DMA engine of an emulated card.
    #[cfg(feature = "rtl-dma")]
    #[arg(long, value_enum, default_value = "model")]
    pub engine: EngineName,
    /// Write an FST trace of the simulated design to this file (feature `rtl-trace`).
    #[cfg(feature = "rtl")]
    #[arg(long, value_name = "FILE")]
    pub trace: Option<std::path::PathBuf>,
    /// Depth of the trace: 2 includes the core; 3 includes the adder, whose 256-bit words need much disk space; 0 includes
    /// everything.
    #[cfg(feature = "rtl")]
    #[arg(long, value_name = "LEVELS", default_value_t = 2, requires = "trace")]
    pub trace_levels: u8,
}

/// User logic of an emulated card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogicName {
    /// A functional model of the MSM design.
    Msm,
    /// The MSM design itself, simulated cycle by cycle.
    #[cfg(feature = "rtl-f2")]
    Rtl,
}

/// DMA engine of an emulated card.
#[cfg(feature = "rtl-dma")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// A model of the XDMA core.
    Model,
    /// The DMA engine of `hdl/rtl/dma`, simulated cycle by cycle.
    Rtl,
}

impl CardArgs {
    /// Returns whether the card is emulated in this process.
    pub fn is_emulated(&self) -> bool {
        self.card.as_ref().is_none_or(|choice| choice.emulated().is_some())
    }

    /// Returns the card to open.
    ///
    /// # Errors
    /// If no card is named, and this machine has XDMA cards.
    pub fn choice(&self) -> Result<CardChoice> {
        Ok(CardChoice::or_emulated(self.card.as_ref())?)
    }

    /// Opens the card. The library's log goes to standard error.
    ///
    /// # Errors
    /// If the card cannot be opened, or the options contradict each other.
    pub fn open(&self) -> Result<Card> {
        self.opening.open(&self.choice()?)
    }

    /// Opens a card with AXI-Stream channels. An emulated card loops each H2C stream back to the C2H stream of the same number.
    ///
    /// # Errors
    /// If the card cannot be opened.
    pub fn open_streams(&self) -> Result<Card> {
        self.opening.open_streams(&self.choice()?)
    }

    /// Returns the margin of the timeout of each job ([`OpeningArgs::timeout_margin`]).
    pub fn timeout_margin(&self) -> Duration {
        self.opening.timeout_margin()
    }

    /// Describes the card in one line.
    ///
    /// # Errors
    /// If the card cannot be read.
    pub fn describe(&self, card: &Card) -> Result<String> {
        describe(&self.choice()?, card)
    }
}

impl CardsArgs {
    /// Opens all cards. Returns each with its description in one line.
    ///
    /// # Errors
    /// If a card cannot be opened, or the options contradict each other.
    pub fn open(&self) -> Result<Vec<(String, Card)>> {
        let choices = self.choices()?;
        let open = |choice: &CardChoice| {
            let card = self.opening.open(choice)?;
            Ok((describe(choice, &card)?, card))
        };
        choices.iter().map(open).collect()
    }

    /// Returns the cards to open.
    ///
    /// # Errors
    /// If `--cards` does not refer to one emulated card; if no card is named, and this machine has XDMA cards.
    pub fn choices(&self) -> Result<Vec<CardChoice>> {
        let mut named = self.card.clone();
        if named.is_empty() {
            named.push(CardChoice::or_emulated(None)?);
        }
        match (self.cards, &named[..]) {
            (None, choices) => Ok(choices.to_vec()),
            (Some(count), [choice]) => {
                ensure!(
                    count == 1 || choice.emulated().is_some(),
                    "`--cards {count}` starts emulated cards, and {choice} is not one: repeat `--card` for several real cards"
                );
                Ok(vec![choice.clone(); count.into()])
            }
            (Some(count), _) => {
                anyhow::bail!(
                    "`--cards {count}` requires one emulated `--card`; omit it to use the cards named by `--card`"
                )
            }
        }
    }

    /// Returns whether all cards are emulated.
    pub fn are_emulated(&self) -> bool {
        self.card.iter().all(|choice| choice.emulated().is_some())
    }

    /// Returns the options as those of one card, if they name only one.
    ///
    /// # Errors
    /// As [`choices`](Self::choices).
    pub fn single(&self) -> Result<Option<CardArgs>> {
        let choices = self.choices()?;
        let opening = self.opening.clone();
        Ok(match &choices[..] {
            [card] => Some(CardArgs { card: Some(card.clone()), opening }),
            _ => None,
        })
    }
}

fn describe(choice: &CardChoice, card: &Card) -> Result<String> {
    let report = card.report()?;
    // So far, only emulated cards use vfio-user.
    let emulated = if report.bus.kind == "vfio-user" { "emulated " } else { "" };
    Ok(format!("{emulated}{choice} ({:04x}:{:04x} over {})", report.vendor, report.device, report.bus.kind))
}

impl OpeningArgs {
    /// Opens a card. The library's log goes to standard error.
    ///
    /// # Errors
    /// If the card cannot be opened, or the options contradict each other.
    pub fn open(&self, choice: &CardChoice) -> Result<Card> {
        init_log();
        #[cfg(feature = "rtl")]
        ensure!(
            self.trace.is_none() || matches!(self.logic, LogicName::Rtl),
            "`--trace` requires the simulated design: add `--logic rtl`"
        );
        #[cfg(feature = "rtl-dma")]
        ensure!(
            self.engine == EngineName::Model || choice.emulated().is_some(),
            "`--engine rtl` requires an emulated card; {choice} has its own engine"
        );
        let card = match self.logic {
            LogicName::Msm => self.open_msm(choice),
            #[cfg(feature = "rtl-f2")]
            LogicName::Rtl => self.open_rtl(choice)?,
        };
        card.with_context(|| cannot_open(choice))
    }

    /// Opens the card. An emulated card has the MSM design, whatever its description names.
    fn open_msm(&self, choice: &CardChoice) -> Result<Card, StartError> {
        self.open_as(choice, EmulatorOptions::like, Design::Msm(MsmModelOptions::default()).build())
    }

    /// Opens the card, which has this logic if it is emulated.
    fn open_as(
        &self,
        choice: &CardChoice,
        emulated: impl FnOnce(CardFile) -> EmulatorOptions,
        logic: Arc<dyn Logic>,
    ) -> Result<Card, StartError> {
        match choice {
            CardChoice::Emulated { card, .. } => {
                let options = described(card, self.options());
                let emulated = emulated(CardFile::clone(card));
                #[cfg(feature = "rtl-dma")]
                if self.engine == EngineName::Rtl {
                    return xdma_emulated_card::start_rtl_dma(emulated, logic, options);
                }
                xdma_emulated_card::start(emulated, logic, options)
            }
            CardChoice::Named(name) => name.open(self.options()).map_err(StartError::from),
        }
    }

    fn options(&self) -> CardOptions {
        let options = CardOptions {
            register_bar: self.register_bar,
            user_bar: self.user_bar,
            ..CardOptions::default()
        };
        self.card_file.as_ref().map_or(options, |card| described(card, options))
    }

    fn open_streams(&self, choice: &CardChoice) -> Result<Card> {
        init_log();
        #[cfg(feature = "rtl-dma")]
        ensure!(self.engine == EngineName::Model, "`--engine rtl` has no streams: omit it");
        let with_streams = |card| EmulatorOptions::like(card).with_streams();
        let card = self.open_as(choice, with_streams, Design::Loopback.build());
        card.with_context(|| cannot_open(choice))
    }

    #[cfg(feature = "rtl-f2")]
    fn open_rtl(&self, choice: &CardChoice) -> Result<Result<Card, StartError>> {
        use xdma_emulator::logic;
        ensure!(
            matches!(choice, CardChoice::Emulated { .. }),
            "`--logic rtl` requires an emulated card; {choice} has its own logic"
        );
        if choice.emulated().is_some_and(|card| card.interrupt_bar().is_some()) {
            #[cfg(feature = "rtl")]
            ensure!(self.trace.is_none(), "`--trace` does not support the image for F2: choose another card");
            return Ok(self.open_as(choice, EmulatorOptions::like, Arc::new(logic::InImage)));
        }
        self.open_design(choice)
    }

    #[cfg(all(feature = "rtl-f2", not(feature = "rtl")))]
    fn open_design(&self, choice: &CardChoice) -> Result<Result<Card, StartError>> {
        anyhow::bail!(
            "`--logic rtl` with card {choice} requires the feature `rtl`: build with `--features rtl`, or choose f2"
        )
    }

    #[cfg(feature = "rtl")]
    fn open_design(&self, choice: &CardChoice) -> Result<Result<Card, StartError>> {
        use xdma_emulator::logic;
        let design = Arc::new(logic::Rtl::new(logic::Variant::Full));
        if let Some(path) = &self.trace {
            let built = cfg!(feature = "rtl-trace");
            ensure!(built, "`--trace` requires the feature `rtl-trace`: build with `--features rtl-trace`");
            ensure!(
                design.trace(path, self.trace_levels),
                "{}",
                crate::human::cannot("write the trace", path)
            );
        }
        Ok(self.open_as(choice, EmulatorOptions::like, design))
    }

    /// Returns the margin of the timeout of each job ([`TimeoutEstimator`](xdma::msm::TimeoutEstimator)). It is larger for a
    /// simulated design, which takes seconds to simulate milliseconds.
    pub fn timeout_margin(&self) -> Duration {
        #[cfg(feature = "rtl-dma")]
        if self.engine == EngineName::Rtl {
            return Duration::from_secs(600);
        }
        match self.logic {
            LogicName::Msm => Duration::from_secs(10),
            #[cfg(feature = "rtl-f2")]
            LogicName::Rtl => Duration::from_secs(600),
        }
    }
}

fn cannot_open(choice: &CardChoice) -> String {
    match choice {
        CardChoice::Named(CardName::Pci(_)) => {
            format!("cannot open card {choice} (`vfio-setup doctor` lists what is missing)")
        }
        card => format!("cannot open card {card}"),
    }
}

/// Writes the library's log to standard error: warnings, or what `RUST_LOG` selects.
fn init_log() {
    let asked = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let layer =
        fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).without_time().with_target(false);
    // Only the first call in a process has an effect.
    let _ = registry().with(layer.with_filter(filter)).try_init();
}

/// Doorbells and descriptors of one channel, register accesses and system calls, over a period of time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Descriptors posted to the engine.
    pub descriptors: u64,
    /// Doorbells: register writes that set Run or add credits.
    pub doorbells: u64,
    /// Register writes, including the doorbells.
    pub register_writes: u64,
    /// Register reads, each a round trip to the card.
    pub register_reads: u64,
    /// System calls.
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

/// Measures a [`Cost`]. Start and read it on the thread that uses the channel, with the channel's current statistics and counts.
pub struct Meter {
    counts: Counts,
    stats: Stats,
    begin: Instant,
}

impl Meter {
    /// Starts measuring.
    pub fn start(stats: Stats, counts: Counts) -> Self {
        Self { counts, stats, begin: Instant::now() }
    }

    /// Returns the seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Returns the cost since the start.
    pub fn cost(&self, stats: Stats, counts: Counts) -> Cost {
        let counts = counts - self.counts;
        Cost {
            descriptors: stats.descriptors - self.stats.descriptors,
            doorbells: stats.doorbells - self.stats.doorbells,
            register_writes: counts.register_writes,
            register_reads: counts.register_reads,
            system_calls: counts.system_calls,
        }
    }
}
