//! A preload library (`LD_PRELOAD`) for programs that use the device files of the `xdma` kernel module.
//!
//! The library replaces the C library functions that open and use files. If `XDMA_BROKER` names a socket, calls on `/dev/xdma*`
//! become requests to the broker at that socket. If `XDMA_EXCLUSIVE` is set, they become requests to the card that the process
//! itself has opened. `xdma run` sets one of the two variables. All other calls reach the C library unchanged.
//! `xdma_chardev::Files` implements the semantics. Programs that do not use the shared C library, or that make system calls
//! directly, are not supported.
//!
//! Variadic functions are defined without the `...` of their C declarations: on x86-64, variadic integer arguments are passed
//! in the same registers as others.

#![deny(missing_docs)]

mod broker;
mod cancel;
mod copy;
mod descriptors;
mod driver_files;
mod errno;
mod events;
mod exclusive;
mod explain;
mod fread;
mod heap;
mod io;
mod listing;
mod open;
mod own;
mod ranges;
mod real;
mod search;
mod service;
mod spawn;
mod startup;
mod status;
mod stdio;
mod table;
mod unsupported;
mod window;
