//! Memory that the card shares with code outside of Rust, or with other processes.

use super::{Card, access};
use crate::memory::MemoryError;
use crate::memory::pinned::PinnedMemory;
use crate::memory::raw::RawMemory;
use crate::memory::shared_memory::SharedMemory;
use crate::regs::Direction;
use std::any::Any;

impl Card {
    /// # Safety
    ///
    /// As for [`PinnedMemory::new`].
    pub(crate) unsafe fn pin(
        &self,
        ptr: *mut u8,
        len: u64,
        direction: Direction,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<PinnedMemory, MemoryError> {
        // SAFETY: the caller's contract.
        unsafe { PinnedMemory::new(&self.inner.space, ptr, len, access(direction), owner) }
    }

    /// # Safety
    ///
    /// As for [`RawMemory::new`].
    pub(crate) unsafe fn register_raw(
        &self,
        ptr: *mut u8,
        len: u64,
        direction: Direction,
    ) -> Result<RawMemory, MemoryError> {
        // SAFETY: the caller's contract.
        unsafe { RawMemory::new(&self.inner.space, ptr, len, access(direction)) }
    }

    pub(crate) fn allocate_shared(
        &self,
        len: u64,
        direction: Direction,
    ) -> Result<SharedMemory, MemoryError> {
        self.inner.space.allocate_shared(len, access(direction))
    }
}
