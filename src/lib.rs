//! A userspace driver for Xilinx XDMA cards.
#![deny(missing_docs)]
pub mod bus;
pub mod card;
pub mod descriptor;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod engine;
pub mod memory;
pub mod msm;
pub mod regs;
