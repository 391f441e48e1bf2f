//! Memory that other code allocated, pinned in place for the card.

use super::parts::Parts;
use super::{Access, CallerMemory, DmaMemory, DmaSpace, MapError, MemoryError, Piece, Pieces};
use std::any::Any;
use std::ops::Range;

/// Memory that was not allocated by Rust code, such as that of a C program, which the card reads or writes in place.
///
/// Unlike a [`Registered`](super::Registered) vector, it stays accessible to its owner, which may read and write it between
/// transfers.
#[derive(Debug)]
pub struct PinnedMemory {
    parts: Parts,
    /// Dropped once the memory is unmapped.
    owner: Option<Box<dyn Any + Send + Sync>>,
}

impl PinnedMemory {
    /// Pins `len` bytes at `ptr` and maps them for the card. `owner` is dropped once the card can no longer access them.
    ///
    /// # Errors
    ///
    /// [`MapError::NotShareable`] if the bus cannot pin memory, [`MemoryError::Unaligned`] if the range does not consist of whole
    /// pages, or another [`MemoryError`] if it is empty or cannot be mapped.
    ///
    /// # Safety
    ///
    /// The bytes stay allocated until `owner` is dropped. They are plain bytes that no Rust reference refers to during a transfer.
    pub(crate) unsafe fn new(
        space: &DmaSpace,
        ptr: *mut u8,
        len: u64,
        access: Access,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Self, MemoryError> {
        let page = space.page_bytes();
        if space.caller_memory() != CallerMemory::Pinned {
            return Err(MapError::NotShareable.into());
        }
        // Otherwise the ends would be staged, and changes by the owner would be missed.
        let offset = ptr.addr() as u64 | len;
        if !offset.is_multiple_of(page) {
            return Err(MemoryError::Unaligned { offset, align: page as usize });
        }
        // SAFETY: the caller's contract. Until the parts are unmapped, they hold the owner.
        let parts = unsafe { Parts::new(space, ptr, len, access)? };
        Ok(Self { parts, owner: Some(owner) })
    }

    /// Returns whether no transfer uses the memory, and none ended without proof that the card has finished with it.
    pub fn is_idle(&self) -> bool {
        self.parts.check_idle().is_ok()
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            // A transfer may still use the pages. The mapping drops the owner once it is unmapped.
            self.parts.attach_owner(owner);
        }
    }
}

impl DmaMemory for PinnedMemory {
    fn byte_len(&self) -> u64 {
        self.parts.len()
    }

    fn access(&self) -> Access {
        self.parts.access()
    }
}

impl Pieces for PinnedMemory {
    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        self.parts.pieces(range, each)
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        self.parts.piece(range)
    }
}
