//! A userspace driver for Xilinx XDMA cards.
#![deny(missing_docs)]
pub mod descriptor;
#[cfg(feature = "emulator")]
pub mod emulator;
pub mod msm;
pub mod regs;
