//! Buffers, and the allocations that stay alive while a card uses them.

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

/// An allocated range of a mapping. Transfers in flight hold references to it; everything else holds its [`Handle`].
pub(crate) struct Allocation {
    mapping: Arc<Mapping>,
    /// Offset in the mapping.
    offset: u64,
    len: u64,
    /// Its device address, if it is contiguous for the card.
    address: Option<u64>,
    pool: Option<Weak<Pool>>,
    space: SpaceId,
    /// Whether a transfer that used it ended without proof that the card had finished with it.
    quarantined: AtomicBool,
}

impl Allocation {
    pub(super) fn new(mapping: Arc<Mapping>, offset: u64, len: u64, pool: Option<Weak<Pool>>) -> Self {
        let holds = |extent: &&Extent| extent.offset <= offset && offset + len <= extent.offset + extent.len;
        let address =
            mapping.extents().iter().find(holds).map(|extent| extent.address + (offset - extent.offset));
        mapping.notify(offset, len, |observer, address, len| observer.allocated(address, len));
        let (space, quarantined) = (mapping.space(), AtomicBool::new(false));
        Self { mapping, offset, len, address, pool, space, quarantined }
    }

    fn ptr(&self) -> *mut u8 {
        // SAFETY: the range lies in the mapping.
        unsafe { self.mapping.ptr().add(self.offset as usize) }
    }

    pub(super) fn view(&self) -> VolatileSlice<'_> {
        // SAFETY: the range lies in the mapping, which `self` keeps alive; all accesses through the view are volatile.
        unsafe { VolatileSlice::new(self.ptr(), self.len as usize) }
    }

    pub(super) fn zero(&self) {
        // SAFETY: the range lies in the mapping, and nothing else refers to it yet.
        unsafe { std::ptr::write_bytes(self.ptr(), 0, self.len as usize) };
    }

    /// Puts the memory in quarantine, because a transfer that uses it ends without proof that the card has finished with it. From
    /// now on the memory is neither written nor reused.
    pub(crate) fn quarantine(&self) {
        if !self.quarantined.swap(true, Ordering::AcqRel) {
            self.mapping.quarantine(self.len);
        }
    }

    pub(super) fn revoke(&self) -> Result<(), MemoryError> {
        Ok(self.mapping.revoke()?)
    }

    pub(super) fn attach_owner(&self, owner: Box<dyn std::any::Any + Send>) {
        self.mapping.attach_owner(owner);
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
        if self.quarantined.load(Ordering::Acquire) {
            // It is released with its mapping, and not reused before.
            return;
        }
        // All transfers that used it ended with proof: others would still hold it or have quarantined it.
        self.mapping.notify(self.offset, self.len, |observer, address, len| observer.released(address, len));
        if let Some(pool) = self.pool.take().and_then(|p| p.upgrade()) {
            pool.release(&self.mapping, self.offset, self.len);
        }
    }
}

/// The handle of an allocation, shared by buffers, lists of transfers and programs. It holds the only reference to the allocation
/// that does not belong to a transfer in flight.
pub(crate) struct Handle {
    allocation: Arc<Allocation>,
    /// Numbers of the programs that use it.
    programs: Mutex<BTreeSet<u64>>,
}

impl Handle {
    pub(super) fn new(allocation: Allocation) -> Arc<Self> {
        Arc::new(Self { allocation: Arc::new(allocation), programs: Mutex::default() })
    }

    /// Pins the memory for a transfer. While the reference exists, it counts as a transfer in flight.
    #[inline(always)]
    pub fn pin(&self) -> Arc<Allocation> {
        self.allocation.clone()
    }

    /// Records that a program that uses the memory was created, or that it was dropped.
    pub fn set_program(&self, number: u64, exists: bool) {
        let mut programs = lock(&self.programs);
        if exists {
            programs.insert(number)
        } else {
            programs.remove(&number)
        };
    }

    /// Checks that neither a transfer nor a run of a program uses the memory.
    pub(super) fn check_idle(&self) -> Result<(), MemoryError> {
        if self.quarantined.load(Ordering::Acquire) {
            return Err(MemoryError::Quarantined);
        }
        match order::uses(&self.allocation) + self.runs() {
            0 => Ok(()),
            in_flight => Err(MemoryError::InFlight(in_flight)),
        }
    }

    /// Returns the number of runs in flight of programs that use the memory.
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
    /// Returns its device address.
    #[inline]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Returns its length in bytes.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns the handle of the memory that it is part of.
    #[inline(always)]
    pub(crate) fn handle(&self) -> &'a Arc<Handle> {
        self.handle
    }

    /// Returns the address space that the memory belongs to.
    #[inline]
    pub(crate) fn space(&self) -> SpaceId {
        self.handle.space
    }
}

/// The device addresses of memory. Channels rely on them for safety, so only this crate implements this trait.
pub trait Pieces {
    /// Calls `each` with the pieces of a range of bytes, in order.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`], [`MemoryError::Empty`]. On an error, `each` is not called.
    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError>;

    /// Returns a range of bytes as a single piece, if that is possible without a search. Otherwise the caller uses
    /// [`pieces`](Self::pieces), which also reports errors.
    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        let _ = range;
        None
    }
}

/// Memory that transfers can use: [`Buffer`], [`Registered`](super::Registered), [`Borrowed`](super::Borrowed).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use xdma::card::CardOptions;
/// use xdma::channel::Channel;
/// use xdma::memory::DmaMemory;
/// use xdma::regs::Direction;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// /// Transfers all of `source` to card address 0.
/// fn send(h2c: &mut Channel, source: &impl DmaMemory) -> Result<(), Box<dyn std::error::Error>> {
///     Ok(h2c.transfer(source, 0..source.byte_len(), 0, Duration::from_secs(5))?)
/// }
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut h2c = card.h2c(0)?;
/// send(&mut h2c, &card.allocate(4096, Direction::H2C)?)?;
/// send(&mut h2c, &card.register(vec![7u32; 1024], Direction::H2C)?)?;
/// # Ok(())
/// # }
/// ```
///
/// Channels rely on the device addresses that an implementation returns, so the trait is sealed:
///
/// ```compile_fail,E0277
/// use xdma::memory::{Access, DmaMemory};
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
/// }
/// ```
pub trait DmaMemory: Pieces {
    /// Returns the length in bytes.
    fn byte_len(&self) -> u64;

    /// Returns how the card may access it.
    fn access(&self) -> Access;
}

/// Alignment of buffers in bytes.
const ALIGNMENT: usize = 64;

/// Memory allocated for zero-copy transfers. It is contiguous for the card if the driver chooses device addresses, which it does
/// on every bus except VFIO without an IOMMU.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use xdma::card::CardOptions;
/// use xdma::regs::Direction;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut source = card.allocate(4096, Direction::H2C)?;
/// source.write(0, &[1u64, 2, 3])?; // by copy
/// source.as_mut_slice::<u64>()?[511] = 4; // in place
/// card.h2c(0)?.transfer(&source, 0..4096, 0, Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Buffer {
    handle: Arc<Handle>,
}

impl Buffer {
    pub(super) fn new(allocation: Allocation) -> Self {
        Self { handle: Handle::new(allocation) }
    }

    /// Returns the device address of the first byte.
    pub fn address(&self) -> u64 {
        let allocation = &**self.handle;
        let extents = &allocation.mapping.extents();
        let at = extents.partition_point(|e| e.offset + e.len <= allocation.offset);
        extents.get(at).map_or(0, |e| e.address + (allocation.offset - e.offset))
    }

    /// Returns whether it is contiguous for the card. Only a buffer with physical addresses that is larger than a page may not
    /// be.
    pub fn is_contiguous(&self) -> bool {
        self.handle.address.is_some()
    }

    /// Returns the size of the pages that it is in.
    pub fn page(&self) -> PageSize {
        self.handle.mapping.page()
    }

    /// Copies `data` to byte `offset`, which may have any alignment.
    ///
    /// # Errors
    ///
    /// The range extends past the end of the buffer, or a transfer that uses the buffer is in flight.
    pub fn write<T: ToCard>(&mut self, offset: u64, data: &[T]) -> Result<(), MemoryError> {
        let bytes = bytes_of(data);
        self.handle.check(offset, bytes.len() as u64)?;
        self.handle.check_idle()?;
        let written = self.handle.view().write_slice(bytes, offset as usize);
        written.map_err(|_| MemoryError::OutOfRange { start: offset, end: offset, len: self.handle.len })
    }

    /// Copies to `data` from byte `offset` on.
    ///
    /// # Errors
    ///
    /// The range extends past the end of the buffer.
    pub fn read<T: FromCard>(&self, offset: u64, data: &mut [T]) -> Result<(), MemoryError> {
        let bytes = bytes_of_mut(data);
        self.handle.check(offset, bytes.len() as u64)?;
        let read = self.handle.view().read_slice(bytes, offset as usize);
        read.map_err(|_| MemoryError::OutOfRange { start: offset, end: offset, len: self.handle.len })
    }

    /// Returns the whole buffer as a slice, to be filled in place while no transfer is in flight. A remainder shorter than an
    /// element is omitted.
    ///
    /// If a program that uses the buffer is started while elements are being written, the card may read partially written
    /// elements.
    ///
    /// # Errors
    ///
    /// The card may write this memory, or a transfer that uses it is in flight.
    pub fn as_mut_slice<T: FromCard>(&mut self) -> Result<&mut [T], MemoryError> {
        if self.access() == Access::CardWrites {
            return Err(MemoryError::WrongAccess { has: Access::CardWrites, remedy: "use `read`" });
        }
        const { assert!(align_of::<T>() <= ALIGNMENT, "buffers are aligned to 64 bytes") };
        self.handle.check_idle()?;
        let len = self.handle.len as usize / size_of::<T>().max(1);
        // SAFETY: the range is mapped, aligned to 64 bytes (enough for T, as asserted) and initialised (zeroed by the kernel or
        // by the pool); any bytes are a valid T, the card only reads the memory, and `&mut self` is its only buffer.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.handle.ptr().cast(), len) })
    }

    /// Returns access to `N` 32-bit words that the card may write, starting at byte `offset`.
    ///
    /// # Errors
    ///
    /// The range extends past the end of the buffer, or the offset is not a multiple of 4.
    pub(crate) fn words<const N: usize>(&self, offset: u64) -> Result<VolatileWords<N>, MemoryError> {
        self.handle.check(offset, 4 * N as u64)?;
        if !offset.is_multiple_of(4) {
            return Err(MemoryError::Unaligned { offset, align: 4 });
        }
        // SAFETY: inside the allocation, as just checked.
        let first = unsafe { self.handle.ptr().add(offset as usize) }.cast();
        Ok(VolatileWords { first, handle: self.handle.clone() })
    }

    /// Converts the buffer into memory for descriptors.
    ///
    /// # Panics
    ///
    /// If the card may write the buffer.
    pub(crate) fn into_descriptor_memory(self) -> DescriptorMemory {
        assert!(self.access() == Access::CardReads, "descriptors must be in memory that the card only reads");
        DescriptorMemory {
            first: self.handle.ptr().cast(),
            groups: self.handle.len as usize / 32,
            handle: self.handle,
        }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.handle.ptr()
    }

    /// Checks that neither a transfer nor a run of a program uses the memory.
    pub(crate) fn check_idle(&self) -> Result<(), MemoryError> {
        self.handle.check_idle()
    }
}

impl DmaMemory for Buffer {
    fn byte_len(&self) -> u64 {
        self.handle.len
    }

    #[inline]
    fn access(&self) -> Access {
        self.handle.mapping.access()
    }
}

impl Pieces for Buffer {
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

/// Memory for descriptors: groups of four 64-bit words that the card only reads.
pub(crate) struct DescriptorMemory {
    first: *mut [u64; 4],
    groups: usize,
    handle: Arc<Handle>,
}

// SAFETY: `handle` keeps the words alive. All accesses are volatile and need `&mut self`.
unsafe impl Send for DescriptorMemory {}

impl fmt::Debug for DescriptorMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DescriptorMemory({:?})", self.handle)
    }
}

impl DescriptorMemory {
    /// Writes the first words of a group, little-endian.
    ///
    /// # Panics
    ///
    /// If `group` is out of range.
    #[inline(always)]
    pub(crate) fn write<const N: usize>(&mut self, group: usize, words: [u64; N]) {
        const { assert!(N <= 4) };
        assert!(group < self.groups, "the descriptor is outside the list");
        // The first word has the magic number. It is written last, so that an engine that runs ahead finds no partial descriptor.
        for (at, word) in words.into_iter().enumerate().rev() {
            // SAFETY: inside the allocation, as just checked, and aligned, as all allocations are. The card only reads this
            // memory, and reads a descriptor only after the doorbell, which follows a fence.
            unsafe { self.first.add(group).cast::<u64>().add(at).write_volatile(word.to_le()) };
        }
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Puts the memory in quarantine, because the card may still read it.
    pub(crate) fn quarantine(&self) {
        self.handle.quarantine();
    }
}

/// `N` 32-bit words that the card writes.
pub(crate) struct VolatileWords<const N: usize> {
    first: *mut u32,
    handle: Arc<Handle>,
}

// SAFETY: `handle` keeps the words alive, and all accesses are volatile.
unsafe impl<const N: usize> Send for VolatileWords<N> {}

impl<const N: usize> fmt::Debug for VolatileWords<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolatileWords<{N}>({:?})", self.handle)
    }
}

impl<const N: usize> VolatileWords<N> {
    /// Returns the value that the card last wrote to a word. `word` is taken modulo `N`.
    #[inline(always)]
    pub(crate) fn load(&self, word: usize) -> u32 {
        // SAFETY: inside the allocation and aligned, see `Buffer::words`.
        u32::from_le(unsafe { self.first.add(word % N).read_volatile() })
    }

    /// Writes a word, before the card starts to use it. `word` is taken modulo `N`.
    #[inline(always)]
    pub(crate) fn store(&self, word: usize, value: u32) {
        // SAFETY: as in `load`.
        unsafe { self.first.add(word % N).write_volatile(value.to_le()) };
    }
}
