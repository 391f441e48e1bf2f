//! Selecting and opening a card, and the logic of an emulated one.

use crate::failure::Failure;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::sync::Arc;
use xdma::card::{Card, CardOptions};
use xdma_emulated_card::CardChoice;
use xdma_emulator::EmulatorOptions;
#[cfg(feature = "rtl")]
use xdma_emulator::logic;
use xdma_emulator::logic::{Design, Logic, MsmModelOptions};

/// The options of every command that uses a card.
#[derive(Args, Clone, Debug)]
pub struct CardArgs {
    /// The card: a PCI address, a vfio-user socket (unix:PATH), or an emulated card (f1, alveo) that exists while the command runs.
    #[arg(long, env = "XDMA_CARD", default_value = "f1", value_name = "BDF|unix:PATH|f1|alveo")]
    pub card: CardChoice,
    /// The user logic of an emulated card [default: msm].
    #[arg(long, value_enum)]
    logic: Option<LogicName>,
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
    /// Creates the logic with default options.
    pub fn build(self) -> Arc<dyn Logic> {
        self.build_with(MsmModelOptions::default())
    }

    /// Creates the logic. `options` apply to the functional model of the MSM design.
    pub fn build_with(self, options: MsmModelOptions) -> Arc<dyn Logic> {
        match self {
            Self::Msm => Design::Msm(options).build(),
            #[cfg(feature = "rtl")]
            Self::Rtl => Arc::new(logic::Rtl::new(logic::Variant::Full)),
            Self::Memory => Design::Memory.build(),
            Self::Loopback => Design::Loopback.build(),
        }
    }

    /// Returns whether the logic has AXI-Stream channels.
    pub fn is_stream(self) -> bool {
        self == Self::Loopback
    }
}

impl CardArgs {
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
        matches!((&self.card, self.logic), (CardChoice::Emulated(_), None | Some(LogicName::Msm)))
    }

    /// Returns the same options with `--logic memory`, if the card is emulated in this process and no other logic was requested.
    pub fn with_memory(&self) -> Option<Self> {
        match (&self.card, self.logic) {
            (CardChoice::Emulated(_), None | Some(LogicName::Memory)) => {
                Some(Self { logic: Some(LogicName::Memory), ..self.clone() })
            }
            _ => None,
        }
    }

    /// Opens the card with `options`.
    pub fn open_with(&self, options: CardOptions) -> Result<Card> {
        let opened = match (&self.card, self.logic) {
            (choice, None) => choice.open(options),
            (CardChoice::Emulated(profile), Some(logic)) => {
                let emulated = EmulatorOptions {
                    profile: *profile,
                    stream: logic.is_stream(),
                    ..EmulatorOptions::default()
                };
                xdma_emulated_card::start(emulated, logic.build(), options)
            }
            (name, Some(_)) => {
                let text =
                    format!("--logic is for the emulated cards f1 and alveo; {name} has its own logic");
                return Err(Failure::Usage(text).into());
            }
        };
        opened.with_context(|| format!("cannot open card {}", self.card))
    }
}
