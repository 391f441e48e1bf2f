//! Host memory that a card reads and writes: hugepages, the caller's own memory, and the addresses a card uses for them.
//!
//! Nothing that a card can write is ever behind a Rust reference: such memory is seen through volatile copies only. Memory
//! that a card only reads may be seen as a slice. What a transfer uses is kept alive by the channel that runs it, so
//! dropping a handle never takes memory away from a card that may still use it.

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
mod registered;
mod sealed;
mod shared;
mod space;
#[cfg(test)]
mod tests;
mod witness;

pub use buffer::{Allocation, Buffer, DmaMemory, Keep, Piece};
pub(crate) use buffer::{Runs, Word};
pub use element::{FromCard, ToCard, bytes_of};
pub use error::{MapError, MemoryError};
pub use host::{HostMemory, HugePages, PageSize};
pub use iova::IovaAllocator;
pub(crate) use process::Process;
pub use registered::{Lent, RegisterError, Registered};
pub(crate) use shared::{ForeignWords, SharedBlock, SharedWords};
pub use space::{Access, Addressing, CallerMemory, DmaSpace, Extent, Mapper, MemoryRef};
pub use witness::{Witness, attend};

// `order` takes it from here, so that `tests/loom` can put loom's in its place.
use std::sync::atomic;
