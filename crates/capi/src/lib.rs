//! The C library of the userspace driver for Xilinx XDMA cards: `libxdma`, with the header `xdma.h`.
//!
//! C and C++ programs do not use this crate, but the library that `install.sh` installs; the README beside it shows how. The functions
//! here are those of the header, and their documentation is the header's. The package [`xdma`] is for Rust programs.
//!
//! - *Handles*: an object of the driver is in a slot of a table, and a handle is a number in the form of a pointer (`kind.rs`). A handle that was
//!   closed, is NULL, or is of another type is an error, never undefined behaviour.
//! - *Threads*: cards, buffers, programs, interrupts, points, scalars and jobs may be used by several threads at a time. Channels, receivers
//!   and MSM clients belong to one thread (`owned.rs`). The wrong thread is an error.
//! - *Errors*: a call returns a status, and stores cause and remedy for its thread. A panic becomes a status.
//!
//! What the library cannot check are pointers to the caller's own memory, including results and text: each must be NULL or valid.

#![deny(unsafe_op_in_unsafe_fn, missing_docs)]
#![allow(non_camel_case_types, reason = "the names of C")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract is the same for all: the head of `xdma.h` states it"
)]

mod buffer;
mod card;
mod channel;
mod children;
mod classify;
mod error;
mod interrupt;
mod kind;
mod log;
mod measure;
mod msm;
mod msm_data;
mod numbers;
mod owned;
mod pointers;
mod program;
mod receiver;
mod registers;
mod shared;
mod status;
mod tables;
mod thread;
mod version;

pub use buffer::*;
pub use card::*;
pub use channel::*;
pub use error::{xdma_error, xdma_last_error};
pub use interrupt::*;
pub use log::*;
pub use measure::*;
pub use msm::*;
pub use msm_data::*;
pub use pointers::*;
pub use program::*;
pub use receiver::*;
pub use registers::*;
pub use status::*;
pub use version::*;

/// **Not part of the public interface: anything in this module may change in any release.**
///
/// Handles for channels and buffers without a card, for this project's benches.
pub mod unstable {
    use crate::buffer::{BUFFERS, BufferObject, xdma_buffer};
    use crate::channel::{CHANNELS, ChannelObject, xdma_channel};
    use crate::children::Children;
    use crate::kind::Kind;
    use crate::pointers::handle;
    use crate::tables;
    use std::sync::Arc;
    use xdma::channel::Channel;
    use xdma::memory::Buffer;

    /// Returns a handle for a channel; NULL if no handle is free.
    pub fn channel(channel: Channel) -> *mut xdma_channel {
        tables::mark_null();
        let object = ChannelObject::new(channel, Arc::<Children>::default().add(Kind::Channel));
        handle(CHANNELS.insert(object).unwrap_or_default())
    }

    /// Returns a handle for a buffer; NULL if no handle is free.
    pub fn buffer(buffer: Buffer) -> *mut xdma_buffer {
        tables::mark_null();
        let object = BufferObject::allocated(buffer, Arc::<Children>::default().add(Kind::Buffer));
        handle(BUFFERS.insert(object).unwrap_or_default())
    }
}
