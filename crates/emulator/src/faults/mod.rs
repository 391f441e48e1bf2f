//! Fault injection: a typed plan of faults, with the channel and the time of each.
//!
//! A [`Plan`] is part of a card's [`EmulatorOptions`](super::EmulatorOptions). It can come from a file (`xdma emulate --faults PLAN.toml`) or
//! from a seed (`xdma emulate --chaos SEED`, which prints the plan). [`EmulatedCard::inject`](super::EmulatedCard::inject) adds
//! faults while the card runs, and [`EmulatedCard::injected_faults`](super::EmulatedCard::injected_faults) returns how often each
//! fault was injected. The driver's behaviour for each fault is specified in its `docs/faults.md`.
//!
//! ```
//! use std::sync::Arc;
//! use xdma_emulator::faults::{BadCompletion, Kind, Plan};
//! use xdma_emulator::{EmulatedCard, EmulatorOptions, logic::Memory};
//! use xdma_regs::Direction;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let faults = Plan { faults: vec![Kind::WriteBackDropped.on(Direction::H2C, 0).after(3)] };
//! let card = EmulatedCard::start(EmulatorOptions { faults, ..EmulatorOptions::default() }, Arc::new(Memory::new()))?;
//! card.inject(Kind::Fetch(BadCompletion::Poisoned).on(Direction::C2H, 0))?;
//! # Ok(())
//! # }
//! ```
//!
//! The same faults as a file:
//!
//! ```toml
//! [[faults]]
//! fault = "WriteBackDropped"
//! on = { direction = "H2C", index = 0 }
//! after = 3
//!
//! [[faults]]
//! fault = { Fetch = "Poisoned" }
//! on = { direction = "C2H", index = 0 }
//! ```

mod injector;
mod kind;
mod plan;

pub(super) use injector::FaultInjector;
pub use kind::{BadCompletion, FaultDuration, Kind};
pub(super) use kind::{InjectionPoint, Until};
pub use plan::{Injection, Plan};

use super::log::ChannelId;

/// The error returned when the card does not have the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the card has no channel {0}")]
pub struct UnknownChannel(pub ChannelId);
