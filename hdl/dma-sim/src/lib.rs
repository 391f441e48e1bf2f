//! The DMA engine of `hdl/rtl/dma` with four channels in each direction, simulated cycle by cycle.
//!
//! [`Engine`] is the engine between two memories, host and card. The simulation is deterministic: the same calls take the same number
//! of cycles on every machine.

mod engine;
mod memory;
mod ports;

pub use engine::{Engine, Transfer};
pub use memory::{Memory, Span};
pub use ports::{Axi, Ports};
