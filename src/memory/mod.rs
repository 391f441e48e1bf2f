//! Host memory that a card reads and writes: hugepages, the caller's own memory, and their device addresses.
//!
//! No Rust reference ever points to memory that a card can write; such memory is accessed only through volatile copies. Memory
//! that a card only reads is available as a slice. The channel that runs a transfer keeps the transfer's memory alive, so
//! dropping a buffer never frees memory that a card may still use.
//!
//! # When memory is released
//!
//! Memory is returned to a free list or to the system only with proof that the card can no longer access it. An error, a timeout
//! or a register of all ones proves nothing. A use of memory ends with proof if the completed descriptor count passed its last
//! descriptor, or if its engine was seen idle. If a use ends without proof, the memory is put in quarantine: it is never written
//! or used again, and it is released when the card is closed, if there is proof by then.
//!
//! | memory | IOMMU | vfio-user | no IOMMU |
//! |---|---|---|---|
//! | part of a mapping shared by small buffers, returned to its free list | all uses ended with proof | all uses ended with proof | all uses ended with proof |
//! | a mapping of the driver's memory, returned to the system | successfully unmapped | always: its file is closed and never used again | all uses ended with proof, or Bus Master was read back as clear |
//! | the caller's pages | successfully unmapped | never mapped | never mapped |
//! | device addresses, freed for reuse | successfully unmapped | successfully unmapped | not allocated: they are physical |
//! | write-back area and metadata of a channel | with the card, like any mapping | with the card, like any mapping | with the card, like any mapping |
//!
//! Without proof, memory stays allocated for the lifetime of the process. [`Channel::close`](crate::channel::Channel::close)
//! reports this, and [`Card::quarantined_bytes`](crate::card::Card::quarantined_bytes) returns the amount.
//!
//! # Memory of several cards
//!
//! Memory, lists of transfers and programs carry the identity of their card's address space, and channels of other cards refuse
//! them. If the driver chooses device addresses, each address space has a different base, so that an address of one card is not
//! valid for another.

mod available;
mod buffer;
mod element;
mod error;
mod host;
mod iova;
pub(crate) mod mapper;
pub(crate) mod order;
mod parts;
pub(crate) mod pinned;
mod pool;
mod process;
#[cfg(test)]
mod quarantine_tests;
pub(crate) mod raw;
mod registered;
pub(crate) mod release_observer;
mod sealed;
mod shared;
pub(crate) mod shared_memory;
pub(crate) mod space;
#[cfg(test)]
mod tests;

pub(crate) use buffer::{Allocation, DescriptorMemory, Handle, VolatileWords};
pub use buffer::{Buffer, DmaMemory};
pub(crate) use buffer::{Piece, Pieces};
pub(crate) use element::bytes_of;
pub use element::{FromCard, ToCard};
pub use error::{MapError, MemoryError};
pub(crate) use host::HostMemory;
pub use host::{HugePages, PageSize};
use iova::IovaAllocator;
pub use mapper::{Access, CallerMemory};
pub(crate) use mapper::{Addressing, Extent, Isolation, Mapper, MemoryRef};
pub(crate) use process::Process;
pub use registered::{Borrowed, RegisterError, Registered};
pub(crate) use release_observer::ReleaseObserver;
pub(crate) use shared::{ForeignWords, SharedBlock, SharedWords};
pub(crate) use space::{DmaSpace, SpaceId};

/// Maximum number of jobs that a channel has in flight or queued; a power of two.
pub(crate) const MAX_JOBS: usize = 256;
/// The jobs that a channel has in flight, with the numbers of their programs.
pub(crate) type Running = order::InFlight<MAX_JOBS>;

// `order` imports `sync` from here, so that `tests/loom` can substitute loom's version.
use std::sync;
