//! Buffers: ranges of mapped memory, and what keeps them while a card uses them.

use super::order::InFlight;
use super::pool::Pool;
use super::space::{Mapping, lock};
use super::{
    Access, Extent, FromCard, MemoryError, PageSize, SpaceId, ToCard, bytes_of, element::bytes_of_mut,
};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use vm_memory::{Bytes, VolatileSlice};

/// A range of a mapping.
pub struct Allocation {
    mapping: Arc<Mapping>,
    offset: u64,
    len: u64,
    /// Its address for the card, if it is one stretch for the card.
    address: Option<u64>,
    /// Single transfers that use it now.
    in_flight: InFlight,
    /// Programs that were built with it; those that run use it too.
    programs: Mutex<Vec<Weak<InFlight>>>,
    pool: Option<Weak<Pool>>,
    space: SpaceId,
    /// A transfer that used it ended without proof that the card was done with it.
    condemned: AtomicBool,
}

impl Allocation {
    pub(super) fn new(mapping: Arc<Mapping>, offset: u64, len: u64, pool: Option<Weak<Pool>>) -> Self {
        let (in_flight, programs) = (InFlight::default(), Mutex::new(vec![]));
        let holds = |extent: &&Extent| extent.offset <= offset && offset + len <= extent.offset + extent.len;
        let address =
            mapping.extents().iter().find(holds).map(|extent| extent.address + (offset - extent.offset));
        mapping.tell(offset, len, |witness, address, len| witness.taken(address, len));
        let (space, condemned) = (mapping.space(), AtomicBool::new(false));
        Self { mapping, offset, len, address, in_flight, programs, pool, space, condemned }
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

    pub(super) fn idle(&self) -> Result<(), MemoryError> {
        let mut in_flight = self.in_flight.count();
        for runs in lock(&self.programs).iter().filter_map(Weak::upgrade) {
            in_flight += runs.count();
        }
        if self.condemned.load(Ordering::Acquire) {
            return Err(MemoryError::Quarantined);
        }
        if in_flight == 0 { Ok(()) } else { Err(MemoryError::InFlight(in_flight)) }
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
        f.debug_struct("Allocation")
            .field("len", &self.len)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
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

/// A piece of memory that is contiguous for the card.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    address: u64,
    len: u64,
    allocation: &'a Arc<Allocation>,
}

impl Piece<'_> {
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

    /// Whether it lies in `allocation`.
    #[inline]
    pub fn is_in(&self, allocation: &Arc<Allocation>) -> bool {
        Arc::ptr_eq(self.allocation, allocation)
    }

    /// Whose card's memory it is.
    #[inline]
    pub(crate) fn space(&self) -> SpaceId {
        self.allocation.space
    }

    /// Keeps the memory, mapped, for a transfer that will use it.
    #[inline]
    pub fn keep(&self) -> Keep {
        Keep::new(self.allocation.clone())
    }

    /// Keeps the memory, mapped, for a program that will use it.
    pub fn hold(&self) -> Arc<Allocation> {
        self.allocation.clone()
    }
}

/// Memory counted as in flight until this is dropped.
#[derive(Debug)]
pub struct Keep(Arc<Allocation>);

impl Keep {
    /// Counts `allocation` as in flight once more.
    #[inline]
    pub fn new(allocation: Arc<Allocation>) -> Self {
        allocation.in_flight.enter();
        Self(allocation)
    }

    /// The transfer ends without proof that the card is done with the memory.
    pub(crate) fn condemn(self) {
        self.0.condemn();
    }
}

impl Drop for Keep {
    #[inline]
    fn drop(&mut self) {
        self.0.in_flight.leave();
    }
}

/// Runs of a program that are in flight: with them, all memory that it was built with.
#[derive(Debug, Default)]
pub(crate) struct Runs(Arc<InFlight>);

impl Runs {
    /// No runs of a program with this memory.
    pub(crate) fn of(memory: &[Arc<Allocation>]) -> Self {
        let this = Self::default();
        for allocation in memory {
            let mut programs = lock(&allocation.programs);
            programs.retain(|runs| runs.strong_count() > 0);
            programs.push(Arc::downgrade(&this.0));
        }
        this
    }

    /// A run begins.
    #[inline]
    pub(crate) fn enter(&self) {
        self.0.enter();
    }

    /// A run has ended: the card is done with the memory.
    #[inline]
    pub(crate) fn leave(&self) {
        self.0.leave();
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
    allocation: Arc<Allocation>,
}

impl Buffer {
    pub(super) fn new(allocation: Allocation) -> Self {
        Self { allocation: Arc::new(allocation) }
    }

    /// Address of the first byte for the card.
    pub fn address(&self) -> u64 {
        let allocation = &*self.allocation;
        let extents = &allocation.mapping.extents();
        let at = extents.partition_point(|e| e.offset + e.len <= allocation.offset);
        extents.get(at).map_or(0, |e| e.address + (allocation.offset - e.offset))
    }

    /// Whether it is one stretch for the card. Only physical addresses make it several, beyond the size of a page.
    pub fn is_contiguous(&self) -> bool {
        self.allocation.address.is_some()
    }

    /// Which pages it lies in.
    pub fn page(&self) -> PageSize {
        self.allocation.mapping.page()
    }

    /// Copies `data` to byte `offset`, which may have any alignment.
    ///
    /// # Errors
    ///
    /// The range leaves the buffer, or a transfer that uses the buffer is in flight.
    pub fn write<T: ToCard>(&mut self, offset: u64, data: &[T]) -> Result<(), MemoryError> {
        let bytes = bytes_of(data);
        self.allocation.check(offset, bytes.len() as u64)?;
        self.allocation.idle()?;
        let written = self.allocation.view().write_slice(bytes, offset as usize);
        written.map_err(|_| MemoryError::OutOfRange { start: offset, end: offset, len: self.allocation.len })
    }

    /// Copies from byte `offset` to `data`.
    ///
    /// # Errors
    ///
    /// The range leaves the buffer.
    pub fn read<T: FromCard>(&self, offset: u64, data: &mut [T]) -> Result<(), MemoryError> {
        let bytes = bytes_of_mut(data);
        self.allocation.check(offset, bytes.len() as u64)?;
        let read = self.allocation.view().read_slice(bytes, offset as usize);
        read.map_err(|_| MemoryError::OutOfRange { start: offset, end: offset, len: self.allocation.len })
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
        self.allocation.idle()?;
        let len = self.allocation.len as usize / size_of::<T>().max(1);
        // SAFETY: the range is mapped, aligned to 64 bytes (no `FromCard` needs more), initialised (zeroed by the kernel
        // or by the pool), any bytes are a T, the card only reads it, and `&mut self` is the only handle to it.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.allocation.ptr().cast(), len) })
    }

    /// A 32-bit word that the card may write, at byte `offset`.
    ///
    /// # Errors
    ///
    /// The range leaves the buffer, or the offset is no multiple of 4.
    pub(crate) fn word(&self, offset: u64) -> Result<Word, MemoryError> {
        self.allocation.check(offset, 4)?;
        if !offset.is_multiple_of(4) {
            return Err(MemoryError::Unaligned { offset, align: 4 });
        }
        // SAFETY: inside the allocation, as just checked.
        let ptr = unsafe { self.allocation.ptr().add(offset as usize) }.cast();
        Ok(Word { ptr, allocation: self.allocation.clone() })
    }

    /// Writes groups of little-endian words, one after the other, from group `first` of the buffer on: descriptors.
    ///
    /// # Panics
    ///
    /// If they leave the buffer: lists are sized before they are written.
    #[inline]
    pub(crate) fn write_groups<const N: usize>(
        &mut self,
        first: usize,
        groups: impl ExactSizeIterator<Item = [u64; N]>,
    ) {
        let (room, count) = (self.allocation.len as usize / (8 * N), groups.len());
        assert!(first <= room && count <= room - first, "groups lie in their buffer");
        let start = self.allocation.ptr().cast::<u64>();
        for (words, at) in groups.zip(first..first + count) {
            for (word, value) in words.into_iter().enumerate() {
                // SAFETY: inside the allocation, as just checked, and aligned, as allocations are; the card only reads this
                // memory, and reads a descriptor only after the doorbell that follows a fence.
                unsafe { start.add(N * at + word).write_volatile(value.to_le()) };
            }
        }
    }

    pub(crate) fn hold(&self) -> Arc<Allocation> {
        self.allocation.clone()
    }
}

impl sealed::Sealed for Buffer {}

impl DmaMemory for Buffer {
    fn byte_len(&self) -> u64 {
        self.allocation.len
    }

    #[inline]
    fn access(&self) -> Access {
        self.allocation.mapping.access()
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        let Range { start, end } = range;
        let address = self.allocation.address?;
        if start < end && end <= self.allocation.len {
            Some(Piece { address: address + start, len: end - start, allocation: &self.allocation })
        } else {
            None
        }
    }

    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        let (allocation, len) = (&*self.allocation, range.end.saturating_sub(range.start));
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
            each(Piece { address, len, allocation: &self.allocation });
        }
        Ok(())
    }
}

/// A word that a card writes.
pub(crate) struct Word {
    ptr: *mut u32,
    allocation: Arc<Allocation>,
}

// SAFETY: the word is kept by `allocation`, and accessed volatile only.
unsafe impl Send for Word {}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word({:#x} in {:?})", self.load(), self.allocation)
    }
}

impl Word {
    /// What the card wrote last.
    #[inline]
    pub(crate) fn load(&self) -> u32 {
        // SAFETY: inside the allocation and aligned, see `Buffer::word`.
        u32::from_le(unsafe { self.ptr.read_volatile() })
    }

    /// Writes the word before the card is told to.
    #[inline]
    pub(crate) fn store(&self, value: u32) {
        // SAFETY: as in `load`.
        unsafe { self.ptr.write_volatile(value.to_le()) };
    }
}
