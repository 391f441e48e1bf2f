//! Selecting and opening a card, and the logic of an emulated one.

use crate::failure::Failure;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use xdma::card::{Card, CardName, CardOptions, PciAddress, Report};
use xdma_emulated_card::{CardChoice, described, find_description};
use xdma_emulator::card_file::{self, Setting};
#[cfg(feature = "rtl")]
use xdma_emulator::logic;
use xdma_emulator::logic::{Design, Logic, Memory, MsmModelOptions};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// The options of every command that uses a card.
#[derive(Args, Clone, Debug)]
pub struct CardArgs {
    /// The card: a PCI address, a vfio-user socket (unix:PATH), or an emulated card that exists while the command runs: f1, alveo,
    /// another shipped description, or a file that describes one (see `xdma emulate --help`) [default: f1, if this machine has no
    /// XDMA card].
    #[arg(long, env = "XDMA_CARD", value_name = "BDF|unix:PATH|NAME|FILE.toml")]
    card: Option<CardChoice>,
    /// A description of a real card, which names its BARs and what `xdma selftest` expects: `xdma survey` writes one.
    #[arg(long, value_name = "NAME|FILE.toml", value_parser = find_description)]
    card_file: Option<CardFile>,
    /// The BAR with the XDMA registers, 0 to 5 [default: found by MSI-X capability or identifiers].
    #[arg(long, value_name = "N", value_parser = bar_index)]
    register_bar: Option<usize>,
    /// The BAR with the user logic's registers, 0 to 5 [default: the first one before the XDMA registers].
    #[arg(long, value_name = "N", value_parser = bar_index)]
    user_bar: Option<usize>,
    /// The user logic of an emulated card [default: that of its description].
    #[arg(long, value_enum)]
    logic: Option<LogicName>,
}

/// Parses the number of a BAR.
fn bar_index(text: &str) -> Result<usize, String> {
    let index = text.parse().ok().filter(|index| *index < 6);
    index.ok_or_else(|| format!("`{text}` is not a BAR: a function has BARs 0 to 5"))
}

/// The user logic of an emulated card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogicName {
    /// A functional model of the MSM design, with 1 MiB of scratch memory at 0x50000000.
    Msm,
    /// The MSM design itself, simulated cycle by cycle.
    #[cfg(feature = "rtl")]
    Rtl,
    /// 64 GiB of memory.
    Memory,
    /// AXI-Stream channels; each H2C channel is looped back to the C2H channel of the same number.
    Loopback,
}

impl LogicName {
    /// Returns the logic that a description names.
    pub fn of(card: &CardFile) -> Self {
        match card.logic.design {
            Setting::Known(card_file::Design::Msm) => Self::Msm,
            _ if card.is_stream() => Self::Loopback,
            _ => Self::Memory,
        }
    }

    /// Returns the description of a card with this logic, whose channels fit the logic.
    pub fn behind(self, mut card: CardFile) -> CardFile {
        let has = LogicName::of(&card) == self;
        match self.is_stream() {
            true => card.set_streams(),
            false => card.channels.interface = card_file::Interface::MemoryMapped,
        }
        if !self.is_stream() && !has {
            card.logic = card_file::Logic::default();
        }
        card
    }

    /// Creates the logic of a card, whose description states which memory it has. `options` apply to the functional model of the
    /// MSM design.
    pub fn build(self, card: &CardFile, options: MsmModelOptions) -> Arc<dyn Logic> {
        match self {
            Self::Msm => Design::Msm(options).build(),
            #[cfg(feature = "rtl")]
            Self::Rtl if card.interrupt_bar().is_some() => Arc::new(logic::InImage),
            #[cfg(feature = "rtl")]
            Self::Rtl => Arc::new(logic::Rtl::new(logic::Variant::Full)),
            Self::Memory => Arc::new(Memory::of(card)),
            Self::Loopback => Design::Loopback.build(),
        }
    }

    /// Returns whether the logic has AXI-Stream channels.
    pub fn is_stream(self) -> bool {
        self == Self::Loopback
    }
}

/// A card in reports.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The name, as the user would type it.
    pub name: String,
    /// Whether a program emulates the card.
    pub emulated: bool,
}

impl Subject {
    /// Returns what the lines of a report end with.
    pub fn note(&self) -> &'static str {
        if self.emulated { " (emulated card)" } else { "" }
    }
}

/// Returns whether a program emulates a card. So far, only emulated cards use vfio-user.
pub fn is_emulated(report: &Report) -> bool {
    report.bus.kind == "vfio-user"
}

/// The PCI address of the card that this program opens, for advice about errors.
static ADDRESS: OnceLock<PciAddress> = OnceLock::new();

/// Returns the PCI address of the card that this program opens, if it has one.
pub fn address() -> Option<PciAddress> {
    ADDRESS.get().copied()
}

fn remember(choice: &CardChoice) {
    if let CardChoice::Named(CardName::Pci(address)) = choice {
        // A command opens one card.
        let _ = ADDRESS.set(*address);
    }
}

impl CardArgs {
    /// Returns the options that select a card and the logic of an emulated one.
    pub fn new(card: CardChoice, logic: Option<LogicName>) -> Self {
        Self { card: Some(card), card_file: None, register_bar: None, user_bar: None, logic }
    }

    /// Returns the card to open.
    pub fn choice(&self) -> Result<CardChoice> {
        Ok(CardChoice::or_emulated(self.card.as_ref())?)
    }

    /// Returns how reports name the card, which is open.
    pub fn subject(&self, card: &Card) -> Result<Subject> {
        Ok(Subject { name: self.choice()?.to_string(), emulated: is_emulated(&card.report()?) })
    }

    /// Returns the description of a card that is emulated in this process.
    fn emulated(&self) -> Option<CardFile> {
        self.choice().ok().and_then(|choice| choice.emulated().cloned())
    }

    /// Opens the card for use.
    pub fn open(&self) -> Result<Card> {
        self.open_with(CardOptions::default())
    }

    /// Opens the card for inspection, without changing its state.
    pub fn open_as_found(&self) -> Result<Card> {
        self.open_with(CardOptions { as_found: true, ..CardOptions::default() })
    }

    /// Returns whether the card is emulated in this process, with the MSM design.
    pub fn is_emulated_msm(&self) -> bool {
        let design = |card: &CardFile| self.logic.unwrap_or(LogicName::of(card));
        self.emulated().is_some_and(|card| design(&card) == LogicName::Msm)
    }

    /// Returns the same options with `--logic memory`, if the card is emulated in this process and no other logic was requested.
    pub fn with_memory(&self) -> Option<Self> {
        let has_memory = matches!(self.logic, None | Some(LogicName::Memory));
        let memory_mapped = self.emulated().is_some_and(|card| !card.is_stream());
        (has_memory && memory_mapped).then(|| Self { logic: Some(LogicName::Memory), ..self.clone() })
    }

    /// Returns the description that `--card-file` names.
    pub fn description(&self) -> Option<&CardFile> {
        self.card_file.as_ref()
    }

    /// Returns `options` with the BARs that were named, or else that the description of a real card names.
    fn with_bars(&self, options: CardOptions) -> CardOptions {
        let options = CardOptions { register_bar: self.register_bar, user_bar: self.user_bar, ..options };
        let real = self.card_file.as_ref().filter(|_| self.emulated().is_none());
        real.map_or(options, |card| described(card, options))
    }

    /// Opens the card with `options`.
    pub fn open_with(&self, options: CardOptions) -> Result<Card> {
        let (choice, options) = (self.choice()?, self.with_bars(options));
        remember(&choice);
        let opened = match (&choice, self.logic) {
            (choice, None) => choice.open(options),
            (CardChoice::Emulated { card, .. }, Some(logic)) => {
                let options = described(card, options);
                let card = logic.behind(CardFile::clone(card));
                let built = logic.build(&card, MsmModelOptions::default());
                xdma_emulated_card::start(EmulatorOptions::like(card), built, options)
            }
            (CardChoice::Named(name), Some(_)) => {
                let text = format!("--logic is for emulated cards; {name} has its own logic");
                return Err(Failure::Usage(text).into());
            }
        };
        opened.with_context(|| format!("cannot open card {choice}"))
    }

    /// Returns the name by which other processes can open the card. An emulated card is served at a socket with the path `path`,
    /// until it is dropped.
    pub fn serve(&self, path: &Path) -> Result<(CardName, Option<EmulatedCard>)> {
        let choice = self.choice()?;
        remember(&choice);
        let card = match choice {
            CardChoice::Named(name) => return Ok((name, None)),
            CardChoice::Emulated { card, .. } => card,
        };
        let logic = self.logic.unwrap_or_else(|| LogicName::of(&card));
        let card = logic.behind(*card);
        let built = logic.build(&card, MsmModelOptions::default());
        let emulated = EmulatedCard::start_at(EmulatorOptions::like(card), built, path);
        Ok((CardName::Socket(path.into()), Some(emulated.context("cannot start the emulated card")?)))
    }
}
