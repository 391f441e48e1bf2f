//! A userspace driver for FPGA cards with Xilinx' XDMA core: AWS F1, Alveo, your own board.
//!
//! The kernel's `xdma` module moves data by one `write()` per chunk: each call pins its pages, cuts the data into 4 KiB
//! descriptors, starts the engine, waits, and unpins. Here the process itself has the card. Memory is pinned and
//! mapped once; a whole interleaved transfer is one chain of descriptors, built once and started by a few posted
//! writes; completion is a word in memory that the process polls. Between two chunks the host has nothing to do.
//!
//! - [`card::Card`] opens a card and hands out channels, memory and the user logic's registers.
//! - [`channel::Channel`] is one channel, owned: [`submit`](channel::Channel::submit), [`poll`](channel::Channel::poll),
//!   [`wait`](channel::Channel::wait), and [programs](channel::Program) that run again and again.
//! - [`channel::stream`] has AXI-Stream channels: packets sent, and received without loss.
//! - [`msm::Msm`] is the client of a design that computes multi-scalar multiplications on BN254.
//! - The package `xdma-emulated-card` opens a card that is a device model; every example and test runs on it.
//! - The package `vfio-setup` prepares a host; the [`guide`] leads from there to a proof.
//! - The page [`security`] says who may harm whom, and what stops them.
//!
//! Cards are reached through the kernel's [`vfio-pci`](bus::vfio), with an IOMMU or without, and over
//! [vfio-user](bus::vfio_user): a socket of another process, or of a thread of this one. The kernel was a real one in a virtual
//! machine, the card in it an emulated one. Nothing has run on silicon.
//!
//! # A round trip
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//! use xdma::card::CardOptions;
//! use xdma_emulator::{Options, logic::Memory};
//! use xdma::regs::Direction;
//!
//! let card = xdma_emulated_card::start(Options::default(), Arc::new(Memory::new()), CardOptions::default())?;
//! let (mut h2c, mut c2h) = (card.h2c(0)?, card.c2h(0)?);
//! let mut source = card.allocate(4096, Direction::H2C)?;
//! let sink = card.allocate(4096, Direction::C2H)?;
//! source.write(0, &[7u32; 1024])?;
//!
//! let limit = Duration::from_secs(5);
//! h2c.transfer(&source, 0..4096, 0x1000, limit)?; // bytes 0..4096 to card address 0x1000
//! let ticket = c2h.submit(&sink, 0..4096, 0x1000)?; // and back, without blocking
//! c2h.wait(ticket, limit)?;
//!
//! let mut seen = [0u32; 1024];
//! sink.read(0, &mut seen)?;
//! assert_eq!(seen, [7; 1024]);
//! # Ok(())
//! # }
//! ```
//!
//! # What holds everywhere
//!
//! - Nothing that a card can write is ever behind a Rust reference.
//! - Memory is reused or freed only when the card is proven to be done with it or unable to reach it
//!   ([how](memory#when-memory-is-released)). An error is not proof. Otherwise the memory is quarantined: never reused, and
//!   reported.
//! - Every card rejects memory, programs and tickets that belong to another.
//! - Safe code cannot break this: traits that `unsafe` code believes are sealed or `unsafe`.
//! - Closing a card restores the reset values of its control registers, so that any other driver can use it. An engine that stays
//!   busy keeps its registers and is reported.
//! - Every wait has a deadline, and its error carries the channel's registers, decoded.
//! - Submit and poll make no system call of their own, take no lock, allocate nothing, and read no device register; only
//!   starting a chain again reads the status register once. Over vfio-user each register access is a socket message behind a
//!   lock, counted in [`bus::counts`].
//! - All ones means that the card is gone, and is checked before a value is used as a number.
//! - Every fall-back is in the card's [description](card::Report), and logged once through `tracing`.

#![deny(missing_docs)]

#[cfg(feature = "tokio")]
mod asynchronous;
pub mod bus;
pub mod card;
pub mod channel;
pub mod descriptor;
#[doc = include_str!("../docs/faults.md")]
pub mod faults {}
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}
pub mod memory;
pub mod msm;
#[doc = include_str!("../docs/security.md")]
pub mod security {}
pub mod stats;

pub use xdma_regs as regs;
