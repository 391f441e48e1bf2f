//! Host memory that a card reads and writes: hugepages, the caller's own memory, and the addresses a card uses for them.
//!
//! Nothing that a card can write is ever behind a Rust reference: such memory is seen through volatile copies only. Memory
//! that a card only reads may be seen as a slice. What a transfer uses is kept alive by the channel that runs it, so
//! dropping a handle never takes memory away from a card that may still use it.
//!
//! # When memory is released
//!
//! Memory goes back to a free list or to the system only with proof that the card can no longer reach it. An error, a time-out or
//! a register of all ones proves nothing. A use of memory ends with proof if the completed count passed its last descriptor, or
//! if its engine was seen idle. If it ends without, the memory is in quarantine: never written or used again, and
//! released when the card was closed, if there is proof then.
//!
//! | what is released | IOMMU | vfio-user | no IOMMU |
//! |---|---|---|---|
//! | part of a mapping that is shared by small buffers, to its free list | all uses ended with proof | the same | the same |
//! | a mapping of ours, to the system | successfully unmapped | always: its file is closed, and never used again | all uses ended with proof, or Bus Master was read back as clear |
//! | pages of the caller | successfully unmapped | never mapped | never mapped |
//! | device addresses, to be given out again | successfully unmapped | the same | they are physical |
//! | write-back words and metadata of a channel | with the card, as any mapping | the same | the same |
//!
//! Without proof memory stays allocated for the life of the process. [`Channel::close`](crate::channel::Channel::close) says so, and
//! [`Card::quarantined_bytes`](crate::card::Card::quarantined_bytes) says how much.
//!
//! # Whose memory it is
//!
//! Memory, lists of transfers and programs carry the identity of their card's address space, and channels of other cards refuse
//! them. Where the driver chooses device addresses, each space begins at another, so that an address of one card means nothing to
//! another.

mod available;
mod buffer;
mod element;
mod error;
mod host;
mod iova;
pub(crate) mod order;
mod parts;
mod pool;
mod process;
#[cfg(test)]
mod quarantine_tests;
mod registered;
mod sealed;
mod shared;
mod space;
#[cfg(test)]
mod tests;
mod witness;

pub(crate) use buffer::{Allocation, Handle, Quads, Words};
pub use buffer::{Buffer, DmaMemory, Piece};
pub use element::{FromCard, ToCard, bytes_of};
pub use error::{MapError, MemoryError};
pub(crate) use host::HostMemory;
pub use host::{HugePages, PageSize};
use iova::IovaAllocator;
pub(crate) use process::Process;
pub use registered::{Lent, RegisterError, Registered};
pub(crate) use shared::{ForeignWords, SharedBlock, SharedWords};
pub(crate) use space::SpaceId;
pub use space::{Access, Addressing, CallerMemory, DmaSpace, Extent, Isolation, Mapper, MemoryRef};
pub use witness::Witness;

/// Jobs that a channel may have in flight or queued; a power of two.
pub(crate) const MAX_JOBS: usize = 256;
/// The programs that a channel has in flight, by their numbers.
pub(crate) type Running = order::InFlight<MAX_JOBS>;

// `order` takes it from here, so that `tests/loom` can put loom's in its place.
use std::sync;
