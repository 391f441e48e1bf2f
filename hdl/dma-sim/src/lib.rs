//! The DMA engine of `hdl/rtl/dma` with four channels in each direction, simulated cycle by cycle.
//!
//! [`Engine`] is the engine between two [buses](Bus), host and card, such as [`Memory`]. The simulation is deterministic: the same calls take the same number
//! of cycles on every machine.

mod engine;
mod memory;
mod ports;

pub use engine::{Bus, Engine, Transfer};
pub use memory::{Memory, Span};
pub use ports::{Axi, Ports};
