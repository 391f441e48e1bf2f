//! Provides the device files of the `xdma` kernel module to existing programs, without the module.
//!
//! [`Device`] and [`Files`] implement the semantics. They serve a program in one of two ways:
//!
//! - A broker ([`Broker`]) owns the card and serves any number of processes. The preload library in each process
//!   (`xdma-preload`) forwards every call on a device file as a [`Request`], and the broker replies as the kernel module would.
//! - The preload library opens the card in the process itself ([`Exclusive`]).
//!
//! A client and the broker exchange requests through a [`Slot`] in shared memory, and the data of calls up to [`WINDOW`] bytes
//! through windows that the card accesses. Without an IOMMU, and for larger calls, the broker copies the data from or to the
//! memory of the calling process (`process_vm_readv`). If a client corrupts the shared memory, only its own calls are affected.
//!
//! Both ways implement [`Caller`], through which the calls access the memory of the calling thread.
//!
//! In a program, an open file is one end of a socket pair. `dup`, `fork`, `exec` and file descriptor passing therefore work
//! without help from the library, and the other side detects when the last file descriptor is closed. The socket always
//! contains one unread message. It identifies the file to a program that inherits the file descriptor, and makes the file
//! descriptor readable for `poll`. An event file is a pipe's read end.

#![deny(unsafe_code)]
#![deny(missing_docs)]

mod bars;
mod broker;
mod caller;
mod calls;
mod client;
mod device;
mod dma;
mod elf;
mod errno;
mod events;
mod exclusive;
mod file;
mod files;
mod futex;
pub mod ioctl;
mod limit;
mod node;
mod perf;
mod registers;
mod rseq;
mod slot;
mod stream;
mod transfer;
mod turn;
mod wire;

use std::sync;

pub use broker::{BROKER_PID_VARIABLE, BROKER_VARIABLE, Broker};
pub use caller::{Caller, CardMemory, InPlace};
pub use calls::{Call, CallKey, Counted, Counters, EXPLAIN_VARIABLE, REMARKS};
pub use device::{Device, DeviceError, DeviceOptions};
pub use elf::has_interpreter;
pub use exclusive::{BadExclusive, EXCLUSIVE_VARIABLE, Exclusive};
pub use files::Files;
pub use node::{Node, pci_number};
pub use rustix::io::Errno;
pub use slot::Slot;
pub use wire::{FILE_MAGIC, FileHeader, Operation, Reply, Request, USES_WINDOW, WINDOW};
