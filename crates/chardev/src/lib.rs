//! The device files of the `xdma` kernel module, for programs that were written for them.
//!
//! A broker ([`Broker`]) owns a card and serves any number of processes. Their preload library (`xdma-preload`) forwards every
//! call on a device file as a [`Request`], and the broker answers as the kernel module would: [`Device`] has the semantics. Data
//! is copied once, between the memory of the calling process and DMA memory of the broker, by `process_vm_readv` and
//! `process_vm_writev`; no memory is shared with clients.
//!
//! An open file is one end of a socket pair, so `dup`, `fork`, `exec` and file descriptor passing work without help from the
//! library, and the broker sees when the last descriptor is closed. A message waits in the socket; it identifies the file to a
//! program that inherits it, and makes the descriptor readable for `poll`. An event file is an eventfd.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod ioctl;
mod node;
mod wire;

#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "broker")]
mod caller;
#[cfg(feature = "broker")]
mod device;
#[cfg(feature = "broker")]
mod dma;
#[cfg(feature = "broker")]
mod errno;
#[cfg(feature = "broker")]
mod events;
#[cfg(feature = "broker")]
mod fair;
#[cfg(feature = "broker")]
mod file;
#[cfg(feature = "broker")]
mod perf;
#[cfg(feature = "broker")]
mod registers;
#[cfg(feature = "broker")]
mod stream;

pub use node::Node;
pub use wire::{FILE_MAGIC, FileHeader, Operation, Reply, Request};

#[cfg(feature = "broker")]
pub use broker::{BROKER_PID_VARIABLE, BROKER_VARIABLE, Broker};
#[cfg(feature = "broker")]
pub use device::{Device, DeviceError, DeviceOptions};
