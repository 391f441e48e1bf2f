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
//! | running a program again and polling it once, chain ring | 177, with one status read and six register writes |
//! | the same, credits ring | 146, with one register write |
//! | one transfer: submitting it and waiting when it is done, chain ring | 198 |
//! | the same, credits ring | 167 |
//! | the same, chain ring, with 16 or 250 transfers in flight | 290 |
//! | building a chain, a descriptor | 37 |
//!
//! Of these 9 are for the statistics that another process may read ([`Stats`]), and 3 to 6 for the counts of register accesses
//! ([`counts`](crate::bus::counts)).
//!
//! What the compiler moves into the caller is not in these figures; counted with it, in a guest under `vfio-pci`, one transfer is
//! 240 (`cargo xtask bench-vm`).
//!
//! Neither takes a lock or allocates (`cargo test --test allocations`), and neither enters the kernel unless the bus does so for
//! a register access. What [`counts`](crate::bus::counts) says of that is compared with strace (`cargo test --test
//! system_calls`).

mod completion;
mod engine;
mod error;
mod handle;
mod monitor;
mod options;
mod place;
mod pool;
mod program;
#[cfg(test)]
mod properties;
mod queue;
mod recovery;
mod registers;
mod report;
mod ring;
mod scope;
mod slots;
mod snapshot;
mod start;
pub mod stream;
mod submission;
#[cfg(test)]
mod tests;
mod transfers;
pub(crate) mod waiting;

pub use crate::stats::{Counters, Errors, Latencies, Stats};
pub use completion::Poll;
pub use error::EngineError;
pub use handle::{Channel, Ticket};
pub use monitor::Performance;
pub use options::{ChannelOptions, Ring, UnknownWait, Wait};
pub use place::{Event, IDLE_LIMIT, Notice, Place};
pub use pool::{Pool, PoolTicket};
pub use program::Program;
pub(crate) use registers::reset_channel;
pub use report::{WORDS, WriteBackArea};
pub use scope::Scope;
pub use snapshot::{RingState, Snapshot};
pub use transfers::Transfers;
