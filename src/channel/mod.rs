//! DMA channels: submitting transfers, polling and waiting for them, and recovering from errors.
//!
//! A [`Channel`] is owned by one thread at a time. [`Channel::submit`] starts a transfer and returns a [`Ticket`];
//! [`Channel::poll`] checks for completion by reading a word in host memory that the engine writes. A [`Program`] is a prebuilt
//! chain of descriptors that [`Channel::run`] starts. Both work on two kinds of ring:
//!
//! - [`Ring::Credits`]: the list is closed, Run stays set, and each submission is one posted write of credits.
//! - [`Ring::Chain`]: each list ends with Stop, and each start is a short sequence of posted writes.
//!
//! A [`Pool`] spreads large transfers over several channels of one direction. AXI-Stream channels have their own types, in
//! [`stream`].
//!
//! # How stale completions are detected
//!
//! With the chain ring, the engine counts from zero in each run and writes the count once, with the last descriptor. Each run
//! uses the next of 64 write-back words, which is zeroed before the start, so a late write-back changes a word that is no
//! longer read. The words stay mapped until the card is closed, because an engine can be idle while a write-back is still in
//! flight. With the credits ring, the count continues and wraps at 24 bits. At most 1023 descriptors are outstanding, so the
//! distance from the last count is the number of new completions; a count that is behind, or too far ahead, is ignored.
//!
//! # Cost
//!
//! Instructions in the library, including all checks, with mapped registers (`cargo bench --bench instructions`, Rust 1.95 on
//! x86-64; the bench prints them by source file):
//!
//! | operation | instructions |
//! |---|---|
//! | running a program again and polling it once, chain ring | 157, with one status read and six register writes |
//! | the same, credits ring | 128, with one register write |
//! | submitting one transfer and waiting for it once it is done, chain ring | 173 |
//! | the same, credits ring | 150 |
//! | the same, chain ring, with 16 or 250 transfers in flight | 182 or 181 |
//! | building a chain, per descriptor | 39 |
//!
//! These include 6 instructions for the statistics that other processes can read ([`Stats`]), and up to 6 for the counts of
//! register accesses ([`counts`](crate::bus::counts)).
//!
//! Instructions that the compiler inlines into the caller are not included. With them, one transfer takes 239 instructions in a
//! guest under `vfio-pci` (`cargo xtask bench-vm`).
//!
//! Neither submitting nor polling takes a lock or allocates (`cargo test --test allocations`), and neither enters the kernel
//! unless the bus needs a system call for a register access. `cargo test --test system_calls` compares the counts in
//! [`counts`](crate::bus::counts) with strace.

mod completion;
pub(crate) mod context;
mod engine;
mod error;
mod handle;
mod monitor;
mod options;
mod pool;
mod program;
#[cfg(test)]
mod properties;
mod queue;
#[cfg(test)]
mod random_jobs;
mod recovery;
mod registers;
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
pub(crate) mod write_back;

pub use crate::stats::{Errors, Latencies, Stats};
pub use completion::Poll;
pub(crate) use context::{ChannelContext, Event, IDLE_LIMIT, SharedState};
pub use error::{
    CloseError, EngineError, InvalidTransfer, OpenError, PollError, PoolError, ProgramError, ScopeError,
    SubmitError, TransferError, WaitError,
};
pub use handle::{Channel, Ticket};
pub use monitor::Performance;
pub use options::{ChannelOptions, Ring, UnknownWait, Wait};
pub use pool::{Pool, PoolTicket};
pub use program::Program;
pub(crate) use registers::reset_channel;
pub use scope::Scope;
pub use snapshot::{RingState, Snapshot};
pub use transfers::Transfers;
pub(crate) use write_back::WriteBackArea;
