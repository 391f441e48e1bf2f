//! Faults caused on purpose: a typed plan of what goes wrong, where and when.
//!
//! A [`Plan`] goes with a card's [`Options`](super::Options), comes from a file (`xdma emulate --faults PLAN.toml`) or from a
//! seed (`xdma emulate --chaos SEED`, which prints it); [`EmulatedCard::inject`](super::EmulatedCard::inject) adds to it while
//! the card runs. [`EmulatedCard::struck`](super::EmulatedCard::struck) tells how often each fault struck. What
//! a driver makes of each is promised in [`crate::faults`].
//!
//! ```
//! use std::sync::Arc;
//! use xdma_emulator::faults::{BadCompletion, Kind, Plan};
//! use xdma_emulator::{EmulatedCard, Options, logic::Memory};
//! use xdma_regs::Direction;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let faults = Plan { faults: vec![Kind::WriteBackDropped.on(Direction::H2C, 0).after(3)] };
//! let card = EmulatedCard::start(Options { faults, ..Options::default() }, Arc::new(Memory::new()))?;
//! card.inject(Kind::Fetch(BadCompletion::Poisoned).on(Direction::C2H, 0))?;
//! # Ok(())
//! # }
//! ```
//!
//! The same plan as a file:
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

mod board;
mod kind;
mod plan;

pub(super) use board::Board;
pub use kind::{BadCompletion, Kind, Lasting};
pub(super) use kind::{Occasion, Until};
pub use plan::{Injection, Plan};

use super::log::ChannelId;

/// The card has no such channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the card has no channel {0}")]
pub struct UnknownChannel(pub ChannelId);
