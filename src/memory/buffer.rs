//! Buffers: ranges of mapped memory, and what keeps them while a card uses them.

use super::order;
use super::pool::Pool;
use super::space::{Mapping, lock};
use super::{
    Access, Extent, FromCard, MemoryError, PageSize, SpaceId, ToCard, bytes_of, element::bytes_of_mut,
};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use vm_memory::{Bytes, VolatileSlice};

/// A range of a mapping. Transfers in flight keep it; everything else has a [`Handle`].
pub(crate) struct Allocation {
    mapping: Arc<Mapping>,
    /// Where in the mapping it begins.
    offset: u64,
    len: u64,
    /// Its address for the card, if it is one stretch for the card.
    address: Option<u64>,
    pool: Option<Weak<Pool>>,
    space: SpaceId,
    /// A transfer that used it ended without proof that the card was done with it.
    condemned: AtomicBool,
}

impl Allocation {
    pub(super) fn new(mapping: Arc<Mapping>, offset: u64, len: u64, pool: Option<Weak<Pool>>) -> Self {
        let holds = |extent: &&Extent| extent.offset <= offset && offset + len <= extent.offset + extent.len;
        let address =
            mapping.extents().iter().find(holds).map(|extent| extent.address + (offset - extent.offset));
        mapping.tell(offset, len, |witness, address, len| witness.taken(address, len));
        let (space, condemned) = (mapping.space(), AtomicBool::new(false));
        Self { mapping, offset, len, address, pool, space, condemned }
    }

    fn ptr(&self) -> *mut u8 {
        // SAFETY: the range was carved inside the mapping.
        unsafe { self.mapping.ptr().add(self.offset as usize) }
    }

    pub(super) fn view(&self) -> VolatileSlice<'_> {
        // SAFETY: the range lies in the mapping, which `self` keeps; all accesses through the view are volatile.
        unsafe { VolatileSlice::new(self.ptr(), self.len as usize) }
    }

    pub(super) fn zero(&self) {
        // SAFETY: the range lies in the mapping, and nobody else has it yet.
        unsafe { std::ptr::write_bytes(self.ptr(), 0, self.len as usize) };
    }

    /// A transfer that uses the memory ends, and nothing proves that the card is done with it: the memory is neither written nor
    /// used for anything else from now on.
    pub(crate) fn condemn(&self) {
        if !self.condemned.swap(true, Ordering::AcqRel) {
            self.mapping.condemn(self.len);
        }
    }

    pub(super) fn revoke(&self) -> Result<(), MemoryError> {
        Ok(self.mapping.revoke()?)
    }

    pub(super) fn adopt(&self, owner: Box<dyn std::any::Any + Send>) {
        self.mapping.adopt(owner);
    }

    fn check(&self, start: u64, bytes: u64) -> Result<(), MemoryError> {
        let end = start.saturating_add(bytes);
        if end > self.len { Err(MemoryError::OutOfRange { start, end, len: self.len }) } else { Ok(()) }
    }
}

impl fmt::Debug for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocation").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.condemned.load(Ordering::Acquire) {
            // It goes where its mapping goes, and to nobody else before.
            return;
        }
        // All transfers that used it ended with proof, or they would hold it, or have condemned it.
        self.mapping.tell(self.offset, self.len, |witness, address, len| witness.released(address, len));
        if let Some(pool) = self.pool.take().and_then(|p| p.upgrade()) {
            pool.release(&self.mapping, self.offset, self.len);
        }
    }
}

/// What buffers, lists of transfers and programs have of an allocation: the one reference to it that is no transfer's.
pub(crate) struct Handle {
    allocation: Arc<Allocation>,
    /// Numbers of the programs that were built with it.
    programs: Mutex<BTreeSet<u64>>,
}

impl Handle {
    pub(super) fn new(allocation: Allocation) -> Arc<Self> {
        Arc::new(Self { allocation: Arc::new(allocation), programs: Mutex::default() })
    }

    /// Keeps the memory, and counts as a transfer in flight while it does.
    #[inline(always)]
    pub fn keep(&self) -> Arc<Allocation> {
        self.allocation.clone()
    }

    /// A program that uses the memory exists, or does no longer.
    pub fn set_program(&self, number: u64, exists: bool) {
        let mut programs = lock(&self.programs);
        if exists {
            programs.insert(number)
        } else {
            programs.remove(&number)
        };
    }

    /// Whether neither a transfer nor a run of a program uses the memory.
    pub(super) fn idle(&self) -> Result<(), MemoryError> {
        if self.condemned.load(Ordering::Acquire) {
            return Err(MemoryError::Quarantined);
        }
        match order::uses(&self.allocation) + self.runs() {
            0 => Ok(()),
            in_flight => Err(MemoryError::InFlight(in_flight)),
        }
    }

    fn runs(&self) -> usize {
        let programs = lock(&self.programs);
        if programs.is_empty() { 0 } else { self.mapping.runs(&|number| programs.contains(&number)) }
    }
}

impl Deref for Handle {
    type Target = Allocation;

    #[inline(always)]
    fn deref(&self) -> &Allocation {
        &self.allocation
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.allocation.fmt(f)
    }
}

/// A piece of memory that is contiguous for the card.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    address: u64,
    len: u64,
    handle: &'a Arc<Handle>,
}

impl<'a> Piece<'a> {
    /// Its address for the card.
    #[inline]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// What it is a piece of.
    #[inline(always)]
    pub(crate) fn handle(&self) -> &'a Arc<Handle> {
        self.handle
    }

    /// Whose card's memory it is.
    #[inline]
    pub(crate) fn space(&self) -> SpaceId {
        self.handle.space
    }
}

pub(super) mod sealed {
    /// The engine believes what [`DmaMemory`](super::DmaMemory) says of addresses and of access, so only this crate implements it.
    pub trait Sealed {}
}

/// Memory that transfers can use: [`Buffer`], [`Registered`](super::Registered), [`Lent`](super::Lent).
///
/// Channels believe what this says of device addresses, so nobody else can implement it:
///
/// ```compile_fail,E0277
/// use xdma::memory::{Access, DmaMemory, MemoryError, Piece};
///
/// struct Anything;
///
/// impl DmaMemory for Anything {
///     fn byte_len(&self) -> u64 {
///         1 << 40
///     }
///
///     fn access(&self) -> Access {
///         Access::CardWrites
///     }
///
///     fn pieces<'a>(
///         &'a self,
///         _: std::ops::Range<u64>,
///         _: &mut dyn FnMut(Piece<'a>),
///     ) -> Result<(), MemoryError> {
///         Ok(())
///     }
/// }
/// ```
pub trait DmaMemory: sealed::Sealed {
    /// Bytes.
    fn byte_len(&self) -> u64;

    /// What the card may do with it.
    fn access(&self) -> Access;

    /// Calls `each` with the pieces of a range of bytes, in order.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`], [`MemoryError::Empty`]; `each` was not called then.
    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError>;

    /// The piece that a range of bytes is, where that is known without looking for it. [`pieces`](Self::pieces) tells of all
    /// others, and of ranges that are errors.
    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        let _ = range;
        None
    }
}

/// Memory allocated for the card: zero-copy everywhere, contiguous for the card wherever we choose addresses.
#[derive(Debug)]
pub struct Buffer {
    handle: Arc<Handle>,
}

impl Buffer {
    pub(super) fn new(allocation: Allocation) -> Self {
        Self { handle: Handle::new(allocation) }
    }

    /// Address of the first byte for the card.
    pub fn address(&self) -> u64 {
        let allocation = &**self.handle;
        let extents = &allocation.mapping.extents();
        let at = extents.partition_point(|e| e.offset + e.len <= allocation.offset);
        extents.get(at).map_or(0, |e| e.address + (allocation.offset - e.offset))
    }

    /// Whether it is one stretch for the card. Only physical addresses make it several, beyond the size of a page.
    pub fn is_contiguous(&self) -> bool {
        self.handle.address.is_some()
    }

    /// Which pages it lies in.
    pub fn page(&self) -> PageSize {
        self.handle.mapping.page()
    }

    /// Copies `data` to byte `offset`, which may have any alignment.
    ///
    /// # Errors
    ///
    /// The range leaves the buffer, or a transfer that uses the buffer is in flight.
    pub fn write<T: ToCard>(&mut self, offset: u64, data: &[T]) -> Result<(), MemoryError> {
        let bytes = bytes_of(data);
        self.handle.check(offset, bytes.len() as u64)?;
        self.handle.idle()?;
        let written = self.handle.view().write_slice(bytes, offset as usize);
        written.map_err(|_| MemoryError::OutOfRange { start: offset, end: offset, len: self.handle.len })
    }

    /// Copies from byte `offset` to `data`.
    ///
    /// # Errors
    ///
    /// The range leaves the buffer.
    pub fn read<T: FromCard>(&self, offset: u64, data: &mut [T]) -> Result<(), MemoryError> {
        let bytes = bytes_of_mut(data);
        self.handle.check(offset, bytes.len() as u64)?;
        let read = self.handle.view().read_slice(bytes, offset as usize);
        read.map_err(|_| MemoryError::OutOfRange { start: offset, end: offset, len: self.handle.len })
    }

    /// All of it, to be filled in place, as long as no transfer is in flight. A rest that is no whole element is left out.
    ///
    /// What is written while a program that holds the buffer runs may reach the card half written.
    ///
    /// # Errors
    ///
    /// The card may write this memory, or a transfer that uses it is in flight.
    pub fn as_mut_slice<T: FromCard>(&mut self) -> Result<&mut [T], MemoryError> {
        if self.access() == Access::CardWrites {
            return Err(MemoryError::WrongAccess { has: Access::CardWrites, remedy: "use `read`" });
        }
        self.handle.idle()?;
        let len = self.handle.len as usize / size_of::<T>().max(1);
        // SAFETY: the range is mapped, aligned to 64 bytes (no `FromCard` needs more), initialised (zeroed by the kernel
        // or by the pool), any bytes are a T, the card only reads it, and `&mut self` is the only handle to it.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.handle.ptr().cast(), len) })
    }

    /// Words of 32 bits that the card may write, from byte `offset` on.
    ///
    /// # Errors
    ///
    /// The range leaves the buffer, or the offset is no multiple of 4.
    pub(crate) fn words<const N: usize>(&self, offset: u64) -> Result<Words<N>, MemoryError> {
        self.handle.check(offset, 4 * N as u64)?;
        if !offset.is_multiple_of(4) {
            return Err(MemoryError::Unaligned { offset, align: 4 });
        }
        // SAFETY: inside the allocation, as just checked.
        let first = unsafe { self.handle.ptr().add(offset as usize) }.cast();
        Ok(Words { first, handle: self.handle.clone() })
    }

    /// All of it, to be written four words at a time: for descriptors.
    ///
    /// # Panics
    ///
    /// If the card may write it.
    pub(crate) fn into_quads(self) -> Quads {
        assert!(self.access() == Access::CardReads, "descriptors lie where the card only reads");
        Quads { first: self.handle.ptr().cast(), groups: self.handle.len as usize / 32, handle: self.handle }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl sealed::Sealed for Buffer {}

impl DmaMemory for Buffer {
    fn byte_len(&self) -> u64 {
        self.handle.len
    }

    #[inline]
    fn access(&self) -> Access {
        self.handle.mapping.access()
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        let Range { start, end } = range;
        let address = self.handle.address?;
        if start < end && end <= self.handle.len {
            Some(Piece { address: address + start, len: end - start, handle: &self.handle })
        } else {
            None
        }
    }

    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        let (allocation, len) = (&**self.handle, range.end.saturating_sub(range.start));
        if len == 0 {
            return Err(MemoryError::Empty);
        }
        allocation.check(range.start, len)?;
        let (start, end) = (allocation.offset + range.start, allocation.offset + range.end);
        let extents = &allocation.mapping.extents();
        let first = extents.partition_point(|e| e.offset + e.len <= start);
        for extent in extents[first..].iter().take_while(|e| e.offset < end) {
            let from = start.max(extent.offset);
            let len = end.min(extent.offset + extent.len) - from;
            let address = extent.address + (from - extent.offset);
            each(Piece { address, len, handle: &self.handle });
        }
        Ok(())
    }
}

/// Memory in groups of four 64-bit words that a card only reads: descriptors.
pub(crate) struct Quads {
    first: *mut [u64; 4],
    groups: usize,
    handle: Arc<Handle>,
}

// SAFETY: the words are kept by `handle`, and accessed volatile only, through `&mut self`.
unsafe impl Send for Quads {}

impl fmt::Debug for Quads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quads({:?})", self.handle)
    }
}

impl Quads {
    /// Writes the first words of a group, little-endian.
    ///
    /// # Panics
    ///
    /// If there is no such group: lists are sized before they are written.
    #[inline(always)]
    pub(crate) fn write<const N: usize>(&mut self, group: usize, words: [u64; N]) {
        const { assert!(N <= 4) };
        assert!(group < self.groups, "descriptors lie in their list");
        for (at, word) in words.into_iter().enumerate() {
            // SAFETY: inside the allocation, as just checked, and aligned, as allocations are; the card only reads this memory, and
            // reads a descriptor only after the doorbell that follows a fence.
            unsafe { self.first.add(group).cast::<u64>().add(at).write_volatile(word.to_le()) };
        }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// The card may go on reading them.
    pub(crate) fn condemn(&self) {
        self.handle.condemn();
    }
}

/// `N` words that a card writes.
pub(crate) struct Words<const N: usize> {
    first: *mut u32,
    handle: Arc<Handle>,
}

// SAFETY: the words are kept by `handle`, and accessed volatile only.
unsafe impl<const N: usize> Send for Words<N> {}

impl<const N: usize> fmt::Debug for Words<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words<{N}>({:?})", self.handle)
    }
}

impl<const N: usize> Words<N> {
    /// What the card wrote last to a word; `word` is taken modulo `N`.
    #[inline(always)]
    pub(crate) fn load(&self, word: usize) -> u32 {
        // SAFETY: inside the allocation and aligned, see `Buffer::words`.
        u32::from_le(unsafe { self.first.add(word % N).read_volatile() })
    }

    /// Writes a word, before the card is told to use it; `word` is taken modulo `N`.
    #[inline(always)]
    pub(crate) fn store(&self, word: usize, value: u32) {
        // SAFETY: as in `load`.
        unsafe { self.first.add(word % N).write_volatile(value.to_le()) };
    }
}
