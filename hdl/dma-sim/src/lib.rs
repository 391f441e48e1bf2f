//! The DMA engine of `hdl/rtl/dma`, simulated cycle by cycle: alone, with four channels in each direction (feature `engine`) or other
//! numbers (feature `shapes`), and in the image for AWS F2, with one (feature `f2`) or four (feature `f2-shapes`).
//!
//! `Engine` is the engine between two [buses](Bus), host and card, such as [`Memory`]. `F2` is the image with all ports of the shell
//! that it uses. The simulation is deterministic: the same calls take the same number of cycles on every machine.

#[cfg(feature = "engine")]
mod engine;
#[cfg(feature = "f2")]
mod f2;
mod list;
mod memory;
mod ports;

#[cfg(feature = "engine")]
pub use engine::Engine;
#[cfg(feature = "f2")]
pub use f2::{F2, Image};
pub use list::{Transfer, list};
pub use memory::{Memory, Span};
#[cfg(feature = "f2")]
pub use ports::F2Ports;
#[cfg(feature = "engine")]
pub use ports::Ports;
pub use ports::{Axi, Bus, Lite};
