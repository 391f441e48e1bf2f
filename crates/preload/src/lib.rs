//! A preload library (`LD_PRELOAD`) for programs that use the device files of the `xdma` kernel module.
//!
//! It replaces the functions of the C library that open and use files. Calls on `/dev/xdma*` become requests to the broker that
//! `XDMA_BROKER` names (`xdma run`); all others reach the C library unchanged. The semantics are the broker's
//! (`xdma_chardev::Device`). Programs without a C library, or that make system calls themselves, are not covered.
//!
//! Functions are defined without the `...` of their C declarations: on x86-64, integer arguments arrive in the same registers.

#![deny(missing_docs)]

mod connection;
mod descriptors;
mod errno;
mod events;
mod io;
mod open;
mod real;
mod startup;
mod status;
mod stdio;
mod table;
