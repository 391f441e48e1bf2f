//! Provides the device files of the `xdma` kernel module to existing programs, without the module.
//!
//! A broker ([`Broker`]) owns a card and serves any number of processes. The preload library in each process (`xdma-preload`)
//! forwards every call on a device file as a [`Request`], and the broker replies as the kernel module would. [`Device`]
//! implements the semantics. The broker copies data between the memory of the calling process and its own DMA memory with
//! `process_vm_readv` and `process_vm_writev`; it shares no memory with clients.
//!
//! In a client, an open file is one end of a socket pair. `dup`, `fork`, `exec` and file descriptor passing therefore work
//! without help from the library, and the broker detects when the last file descriptor is closed. The socket always contains
//! one unread message: it identifies the file to a program that inherits it, and makes the file descriptor readable for `poll`.
//! An event file is an eventfd.

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
