//! A userspace driver for FPGA cards with the Xilinx XDMA core: AWS F1, Alveo, and custom boards.
//!
//! The kernel's `xdma` module moves data in chunks, one `write()` per chunk. Each call pins its pages, splits the data into 4
//! KiB descriptors, starts the engine, waits for it, and unpins the pages. With this crate, the process owns the card. Memory
//! is pinned and mapped once. A whole interleaved transfer is one chain of descriptors, built once and started by a few posted
//! register writes. The engine reports completion in a word of memory, which the process polls. Between two chunks, the host
//! has nothing to do.
//!
//! - [`card::Card`] opens a card, and provides its channels, memory and user registers.
//! - [`channel::Channel`] is one DMA channel. It has [`submit`](channel::Channel::submit), [`poll`](channel::Channel::poll) and
//!   [`wait`](channel::Channel::wait), and runs [prebuilt programs](channel::Program).
//! - [`channel::stream`] has AXI-Stream channels: one direction sends packets, the other receives them, both without loss.
//! - [`msm::Msm`] drives an FPGA design that computes multi-scalar multiplications on BN254.
//! - The package `xdma-emulated-card` opens an emulated card: a software model of the device. All examples and tests run on it.
//! - The package `vfio-setup` prepares a host. The [`guide`] leads from there to a proof.
//! - The [`security`] page describes which parties are trusted, and how the others are contained.
//!
//! The driver reaches cards through the kernel's [`vfio-pci`](bus::vfio), with or without an IOMMU, and over
//! [vfio-user](bus::vfio_user), a socket protocol whose other end is a card model in another process or in a thread. It has been
//! tested with a real kernel in a virtual machine, in which the card was emulated. Nothing has run on silicon.
//!
//! # A round trip
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//! use xdma::card::CardOptions;
//! use xdma_emulator::{EmulatorOptions, logic::Memory};
//! use xdma::regs::Direction;
//!
//! let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
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
//! # Guarantees
//!
//! - No Rust reference ever points to memory that a card can write.
//! - Memory is reused or freed only after the card is proven to be done with it, or unable to reach it
//!   ([how](memory#when-memory-is-released)). An error is not proof: without proof, the memory is quarantined, which means that
//!   it is never reused, and is reported.
//! - A card rejects memory, programs and tickets that belong to another card.
//! - Safe code cannot break this: traits that `unsafe` code relies on are sealed or `unsafe`.
//! - Closing a card restores the reset values of its control registers, so that any other driver can use it. An engine that
//!   stays busy keeps its registers and is reported.
//! - Every wait has a deadline, and its error contains the decoded registers of the channel.
//! - Submitting and polling make no system call, take no lock, allocate nothing, and read no device register, except that
//!   restarting a chain reads the status register once. Over vfio-user, each register access is a socket message behind a lock,
//!   counted in [`bus::counts`].
//! - A register that reads all ones means that the card is gone. This is checked before a value is used.
//! - Every fallback is part of the card's [description](card::Report), and logged once through `tracing`.

#![deny(missing_docs)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod bus;
pub mod card;
pub mod channel;
mod descriptor;
#[cfg(test)]
mod error_tests;
#[doc = include_str!("../docs/faults.md")]
pub mod faults {}
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}
pub mod memory;
pub mod msm;
mod remedy;
#[doc = include_str!("../docs/security.md")]
pub mod security {}
pub mod stats;
pub mod unstable;

pub use remedy::Remedy;
pub use xdma_regs as regs;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
