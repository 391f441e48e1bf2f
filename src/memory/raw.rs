//! Memory that code in another language owns and keeps, such as the caller of a C function.

use super::parts::Parts;
use super::{Access, DmaMemory, DmaSpace, MemoryError, Piece, Pieces};
use std::ops::Range;

/// Memory that other code owns, and that the card reads or writes, in place as far as the bus can pin it.
///
/// Like a [`Registered`](super::Registered) vector, it is pinned in whole pages, and the rest is staged. Unlike that, its owner may
/// read and write it between transfers: [`synchronize`](Self::synchronize) copies between the owner's memory and the staged parts.
#[derive(Debug)]
pub struct RawMemory {
    parts: Parts,
    ptr: *mut u8,
}

// SAFETY: the contract of `new` makes the memory behind the pointer accessible from any thread.
unsafe impl Send for RawMemory {}
// SAFETY: as above; only methods that take `&mut self` access the memory.
unsafe impl Sync for RawMemory {}

impl RawMemory {
    /// Maps `len` bytes at `ptr` for the card, or allocates memory to stage them.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if the range is empty, or cannot be mapped or staged.
    ///
    /// # Safety
    ///
    /// The bytes are plain bytes, and stay allocated until [`release`](Self::release) has succeeded and this is dropped. While a method that takes
    /// `&mut self` runs, nothing else accesses them, and while the result of [`bytes`](Self::bytes) is used, nothing writes them. No Rust
    /// reference to bytes that the card may write is used before that.
    pub(crate) unsafe fn new(
        space: &DmaSpace,
        ptr: *mut u8,
        len: u64,
        access: Access,
    ) -> Result<Self, MemoryError> {
        // SAFETY: the caller's contract.
        let mut this = Self { parts: unsafe { Parts::new(space, ptr, len, access)? }, ptr };
        if access == Access::CardReads {
            this.synchronize()?;
        }
        Ok(this)
    }

    /// Returns the number of bytes that are staged rather than used in place.
    pub fn staged_bytes(&self) -> u64 {
        self.parts.staged_bytes()
    }

    /// Checks that no transfer uses the memory.
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`], [`MemoryError::Quarantined`].
    pub fn check_idle(&self) -> Result<(), MemoryError> {
        self.parts.check_idle()
    }

    /// Copies the staged parts: from the owner's memory if the card reads it, to the owner's memory if the card writes it.
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`] while a transfer uses the memory; [`MemoryError::Quarantined`].
    pub fn synchronize(&mut self) -> Result<(), MemoryError> {
        self.parts.check_idle()?;
        let (access, ptr) = (self.access(), self.ptr);
        self.parts.each_staged(|range, buffer| {
            let len = (range.end - range.start) as usize;
            // SAFETY: inside the owner's memory, which is allocated and which nothing else accesses now. It is a staged part, so the
            // card has no access to it.
            let owned = unsafe { std::slice::from_raw_parts_mut(ptr.add(range.start as usize), len) };
            match access {
                Access::CardReads => buffer.write(0, owned),
                Access::CardWrites => buffer.read(0, owned),
            }
        })
    }

    /// Revokes the card's access to the memory, which then belongs to its owner once this is dropped. May be called again after an
    /// error.
    ///
    /// Running a program that still uses the memory is an error afterwards.
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`] while a transfer uses the memory; [`MemoryError::Map`] if it cannot be unmapped. The card may then
    /// still access it.
    pub fn release(&self) -> Result<(), MemoryError> {
        match self.parts.check_idle() {
            // After an unmapping that succeeds, it does not matter how transfers ended. Staged parts never were the owner's memory.
            Ok(()) | Err(MemoryError::Quarantined) => self.parts.revoke(),
            Err(error) => Err(error),
        }
    }

    /// Returns the owner's memory.
    ///
    /// # Errors
    ///
    /// [`MemoryError::WrongAccess`] if the card may write it.
    pub(crate) fn bytes(&self) -> Result<&[u8], MemoryError> {
        match self.access() {
            // SAFETY: the memory is allocated, the card only reads it, and nothing else writes it now, by the contract of `new`.
            Access::CardReads => {
                Ok(unsafe { std::slice::from_raw_parts(self.ptr, self.parts.len() as usize) })
            }
            has => Err(MemoryError::WrongAccess { has, remedy: "use `read`" }),
        }
    }

    /// Copies bytes to `to`, from offset `start` on.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`].
    pub fn read(&self, start: u64, to: &mut [u8]) -> Result<(), MemoryError> {
        self.parts.read(start, to)
    }
}

impl DmaMemory for RawMemory {
    fn byte_len(&self) -> u64 {
        self.parts.len()
    }

    fn access(&self) -> Access {
        self.parts.access()
    }
}

impl Pieces for RawMemory {
    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        self.parts.pieces(range, each)
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        self.parts.piece(range)
    }
}
