//! One DMA channel: its ring, submission, completion, waiting, stopping, recovery.
//!
//! A [`Channel`] is owned by one thread at a time. [`Channel::submit`] starts a transfer and returns a [`Ticket`];
//! [`Channel::poll`] looks at a word in host memory that the engine writes. A [`Program`] is a prebuilt chain, run by
//! [`Channel::run`]. Both work over two kinds of ring:
//!
//! - [`Ring::Credits`]: the list is closed, Run stays set, and each submission is one posted write of credits.
//! - [`Ring::Chain`]: a list ends in Stop, and each start is a short sequence of posted writes.
//!
//! A [`Pool`] spreads large transfers over several channels of a direction. AXI-Stream channels have types of their own, in
//! [`stream`].
//!
//! # How a stale completion is told from a new one
//!
//! With a chain, the engine counts from zero in each run and writes the count once, with the last descriptor. Each run gets
//! another of [`WORDS`] write-back words, zeroed before the start, so a write-back that arrives late
//! changes a word that nobody looks at; the words stay mapped until the card is closed ([`WriteBackArea`]), since an engine may be
//! idle with a write-back still on its way. With credits the count goes on and wraps at 24 bits; at most 1023 descriptors
//! are outstanding, so the distance from the last count tells how many are new, and a value that lies behind or too
//! far ahead is ignored.
//!
//! # What it costs
//!
//! Instructions in the library, all checks included, with registers that are mapped (`cargo bench --bench instructions`, Rust
//! 1.95 on x86-64; the bench prints them by source file):
//!
//! | what | instructions |
//! |---|---|
//! | running a program again and polling it once, chain ring | 200, with one status read and six register writes |
//! | the same, credits ring | 189, with one register write |
//! | one transfer: submitting it and waiting when it is done, chain ring | 278 |
//! | the same, credits ring | 255 |
//! | building a chain, a descriptor | 39 |
//!
//! Of these about 10 are for the statistics that another process may read ([`Stats`]), and 4 to 7 for the identity of the memory's card and for ranges that end before they begin.
//!
//! What the compiler moves into the caller is not in these figures; counted with it, in a guest under `vfio-pci`, one transfer is
//! 295 (`cargo xtask bench-vm`).
//!
//! Neither takes a lock or allocates (`cargo test --test allocations`), and neither enters the kernel unless the bus does so for
//! a register access. What [`counts`](crate::bus::counts) says of that is compared with strace (`cargo test --test
//! system_calls`).

mod channel;
mod error;
mod gate;
mod jobs;
mod monitor;
mod outcomes;
mod poll;
mod pool;
mod program;
#[cfg(test)]
mod properties;
mod recover;
mod registers;
mod ring;
mod scope;
mod snapshot;
pub mod stream;
mod submit;
#[cfg(test)]
mod tests;
pub(crate) mod wait;
mod words;

pub use crate::stats::{Counters, Errors, Latencies, Stats};
pub use channel::{Channel, ChannelOptions, IDLE_LIMIT, Notice, Place, Ticket};
pub use error::EngineError;
pub use monitor::Performance;
pub use poll::Poll;
pub use pool::{Pool, PoolTicket};
pub use program::{Program, Transfers};
pub(crate) use registers::reset_channel;
pub use scope::Scope;
pub use snapshot::{RingState, Snapshot};
pub use wait::{Event, UnknownWait, Wait};
pub use words::{WORDS, WriteBackArea};

/// The two ways of starting transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Lists that end in Stop, started by a sequence of writes.
    Chain,
    /// Closed lists, continued by writing credits. Not every build of the core has them.
    Credits,
}

impl std::fmt::Display for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chain => "chain",
            Self::Credits => "credits",
        })
    }
}
