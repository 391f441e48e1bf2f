//! Which card, and what lies behind an emulated one.

use crate::failure::Failure;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::sync::Arc;
use xdma::card::{Card, CardOptions};
use xdma_emulated_card::CardChoice;
use xdma_emulator::Options;
#[cfg(feature = "rtl")]
use xdma_emulator::logic;
use xdma_emulator::logic::{Design, Logic, MsmOptions};

/// The options that every command with a card has.
#[derive(Args, Clone, Debug)]
pub struct CardArgs {
    /// The card: a PCI address, unix:PATH of a vfio-user socket, or an emulated card (f1, alveo) that lives as long as the
    /// command.
    #[arg(long, env = "XDMA_CARD", default_value = "f1", value_name = "BDF|unix:PATH|f1|alveo")]
    pub card: CardChoice,
    /// What lies behind an emulated card's engine; msm unless named.
    #[arg(long, value_enum)]
    logic: Option<LogicName>,
}

/// What lies behind an emulated card's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogicName {
    /// The MSM design's functional model, with 1 MiB of scratch memory at 0x50000000.
    Msm,
    /// The MSM design itself, cycle by cycle.
    #[cfg(feature = "rtl")]
    Rtl,
    /// 64 GiB of memory.
    Memory,
    /// AXI-Stream channels, each H2C one looped to the C2H one of its number.
    Loopback,
}

impl LogicName {
    /// The logic itself, with its defaults.
    pub fn build(self) -> Arc<dyn Logic> {
        self.build_with(MsmOptions::default())
    }

    /// The logic itself; the options are those of the MSM design's functional model.
    pub fn build_with(self, options: MsmOptions) -> Arc<dyn Logic> {
        match self {
            Self::Msm => Design::Msm(options).build(),
            #[cfg(feature = "rtl")]
            Self::Rtl => Arc::new(logic::Rtl::new(logic::Variant::Full)),
            Self::Memory => Design::Memory.build(),
            Self::Loopback => Design::Loopback.build(),
        }
    }

    /// Whether it wants AXI-Stream channels.
    pub fn is_stream(self) -> bool {
        self == Self::Loopback
    }
}

impl CardArgs {
    /// Opens the card, to use it.
    pub fn open(&self) -> Result<Card> {
        self.open_with(CardOptions::default())
    }

    /// Opens the card, and changes nothing by that.
    pub fn open_as_found(&self) -> Result<Card> {
        self.open_with(CardOptions { as_found: true, ..CardOptions::default() })
    }

    /// Whether it is an emulated card of this process, with the MSM design.
    pub fn is_emulated_msm(&self) -> bool {
        matches!((&self.card, self.logic), (CardChoice::Emulated(_), None | Some(LogicName::Msm)))
    }

    /// The same with memory behind it, if it is an emulated card of this process of which nothing else was demanded.
    pub fn with_memory(&self) -> Option<Self> {
        match (&self.card, self.logic) {
            (CardChoice::Emulated(_), None | Some(LogicName::Memory)) => {
                Some(Self { logic: Some(LogicName::Memory), ..self.clone() })
            }
            _ => None,
        }
    }

    /// Opens the card as the options say.
    pub fn open_with(&self, options: CardOptions) -> Result<Card> {
        let opened = match (&self.card, self.logic) {
            (choice, None) => choice.open(options),
            (CardChoice::Emulated(profile), Some(logic)) => {
                let emulated = Options { profile: *profile, stream: logic.is_stream(), ..Options::default() };
                xdma_emulated_card::start(emulated, logic.build(), options)
            }
            (name, Some(_)) => {
                let text = format!("{name} has its own logic; --logic is for emulated cards: f1, alveo");
                return Err(Failure::Usage(text).into());
            }
        };
        opened.with_context(|| format!("cannot open card {}", self.card))
    }
}
