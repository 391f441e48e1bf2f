//! One card's address space: what is mapped where, for how long.

use super::pool::Pool;
use super::witness::{self, Witness};
use super::{
    Buffer, HostMemory, HugePages, IovaAllocator, MapError, MemoryError, PageSize, Process, RegisterError,
    Registered, ToCard,
};
use std::any::Any;
use std::fmt;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a card may do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it: data for the card, and descriptors.
    CardReads,
    /// Write it: data from the card, and completions.
    CardWrites,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CardReads => "only reads",
            Self::CardWrites => "writes",
        })
    }
}

/// A stretch of a mapping that is contiguous for the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the mapping it starts, in bytes.
    pub offset: u64,
    /// Its address for the card.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

/// How a bus finds device addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// We choose them from these ranges, in steps of `page_bytes`.
    Chosen {
        /// What may be used.
        ranges: Vec<RangeInclusive<u64>>,
        /// Granularity of mappings.
        page_bytes: u64,
    },
    /// They are physical addresses: given, and contiguous within a page only.
    Physical,
}

/// What a bus can do with memory that the caller allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerMemory {
    /// It is pinned and the card uses it where it lies.
    Pinned,
    /// It is copied through memory of ours, for this reason.
    Staged(&'static str),
}

/// Memory to be mapped.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRef<'a> {
    /// First byte in this process.
    pub ptr: *mut u8,
    /// Bytes; a multiple of the bus's granularity, as is `ptr`.
    pub len: u64,
    /// Its pages: the memory is physically contiguous in each.
    pub page: PageSize,
    /// The file it is a mapping of, and the offset in it, where there is one.
    pub file: Option<(&'a File, u64)>,
}

/// The part of a bus that gives a card access to memory.
pub trait Mapper: Send + Sync {
    /// How device addresses are found.
    fn addressing(&self) -> Addressing;

    /// What happens to memory that the caller allocated.
    fn caller_memory(&self) -> CallerMemory;

    /// Whether another process gets the files of memory, and with them can take pages out of what the card may write.
    fn shares_files(&self) -> bool {
        false
    }

    /// Maps memory at device address `iova`, which is ignored with [`Addressing::Physical`].
    ///
    /// # Errors
    ///
    /// [`MapError`]; nothing is mapped then.
    ///
    /// # Safety
    ///
    /// Until [`unmap`](Self::unmap) has returned `Ok`, the memory stays allocated; if the card may write it, no Rust
    /// reference to it exists, and if the card reads it, it is not given out as anything but plain bytes.
    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError>;

    /// Takes back a mapping as a whole; when this returns `Ok`, the card can no longer reach the memory.
    ///
    /// # Errors
    ///
    /// [`MapError`]; the memory must then stay allocated, except with [`MapError::Gone`].
    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError>;
}

/// What outlives the space itself: mappings in flight need it to go away.
pub(crate) struct Core {
    mapper: Arc<dyn Mapper>,
    iovas: Mutex<IovaAllocator>,
    page_bytes: u64,
    physical: bool,
    witness: OnceLock<Arc<dyn Witness>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two updates of these maps cannot happen, so a poisoned lock still holds whole data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says to whoever traces what a device address was, for whoever reads of an IOMMU fault there.
fn tell(what: &str, extents: &[Extent], access: Access, page: PageSize) {
    for Extent { address, len, .. } in extents {
        let iova = format_args!("{address:#x}..{:#x}", address + len);
        tracing::debug!(%iova, card = %access, pages = %page, "{what}");
    }
}

pub(super) enum Backing {
    Ours(HostMemory),
    Callers { ptr: *mut u8, len: u64 },
}

impl Backing {
    pub(super) fn ptr(&self) -> *mut u8 {
        match self {
            Self::Ours(memory) => memory.as_ptr(),
            Self::Callers { ptr, .. } => *ptr,
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Ours(memory) => memory.len(),
            Self::Callers { len, .. } => *len,
        }
    }
}

/// Memory that the card can reach. Dropping it takes the memory away from the card, then frees it.
pub(super) struct Mapping {
    core: Arc<Core>,
    backing: ManuallyDrop<Backing>,
    /// What owns the caller's memory, once its handle was dropped.
    adopted: Mutex<Option<Box<dyn Any + Send>>>,
    revoked: AtomicBool,
    process: Process,
    pub(super) extents: Vec<Extent>,
    pub(super) access: Access,
}

// SAFETY: the pointer in `backing` is to memory that the mapping keeps, and that is accessed through `Allocation` only,
// whose methods say how. `adopted` is behind a lock.
unsafe impl Send for Mapping {}
// SAFETY: as above; the fields are not changed after creation, but for `adopted`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Safety
    ///
    /// The contract of [`Mapper::map`], for as long as the mapping lives.
    unsafe fn new(core: &Arc<Core>, backing: Backing, access: Access) -> Result<Self, MemoryError> {
        let len = backing.len();
        let iova = if core.physical { 0 } else { core.take(len)? };
        let (page, file) = match &backing {
            Backing::Ours(memory) => (memory.page(), Some((memory.file(), 0))),
            Backing::Callers { .. } => (PageSize::Base, None),
        };
        let memory = MemoryRef { ptr: backing.ptr(), len, page, file };
        // SAFETY: passed on to our caller.
        let mapped = unsafe { core.mapper.map(memory, iova, access) };
        let extents = mapped.inspect_err(|_| core.give_back(iova, len))?;
        let backing = ManuallyDrop::new(backing);
        tell("mapped", &extents, access, page);
        let (adopted, revoked, process) = (Mutex::new(None), AtomicBool::new(false), Process::this());
        Ok(Self { core: core.clone(), backing, adopted, revoked, process, extents, access })
    }

    pub(super) fn ptr(&self) -> *mut u8 {
        self.backing.ptr()
    }

    pub(super) fn len(&self) -> u64 {
        self.backing.len()
    }

    pub(super) fn page(&self) -> PageSize {
        match &*self.backing {
            Backing::Ours(memory) => memory.page(),
            Backing::Callers { .. } => PageSize::Base,
        }
    }

    /// Calls the witness with the addresses of `len` bytes from `offset` on.
    pub(super) fn tell(&self, offset: u64, len: u64, what: impl Fn(&dyn Witness, u64, u64)) {
        let Some(witness) = self.core.witness.get() else { return };
        for extent in &self.extents {
            let (from, to) = (offset.max(extent.offset), (offset + len).min(extent.offset + extent.len));
            if from < to {
                what(&**witness, extent.address + (from - extent.offset), to - from);
            }
        }
    }

    /// Keeps `owner` until the memory was taken away from the card.
    pub(super) fn adopt(&self, owner: Box<dyn Any + Send>) {
        *lock(&self.adopted) = Some(owner);
    }
}

impl Mapping {
    /// Takes the memory away from the card. Its addresses stay taken, so that nothing else is reached by them.
    pub(super) fn revoke(&self) -> Result<(), MapError> {
        if self.revoked.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.core.mapper.unmap(self.extents[0].address, self.len()) {
            // A card that is gone reaches nothing.
            Ok(()) | Err(MapError::Gone(_)) => {
                tell("unmapped", &self.extents, self.access, self.page());
                self.revoked.store(true, Ordering::Release);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.process.is_forked() {
            std::mem::forget(lock(&self.adopted).take());
            return;
        }
        match self.revoke() {
            Ok(()) => self.core.give_back(self.extents[0].address, self.len()),
            Err(error) => {
                tracing::error!(%error, "memory could not be unmapped; it stays allocated for the life of the process");
                std::mem::forget(lock(&self.adopted).take());
                return;
            }
        }
        // SAFETY: dropped here only, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.backing) };
    }
}

impl Core {
    fn take(&self, len: u64) -> Result<u64, MemoryError> {
        // Aligned to the largest page that the length fills, the IOMMU can use large entries.
        let align = [PageSize::Huge1G, PageSize::Huge2M].iter().map(|p| p.bytes()).find(|&b| len >= b);
        let align = align.unwrap_or(self.page_bytes);
        lock(&self.iovas).take(len, align).ok_or(MemoryError::NoAddresses { len })
    }

    fn give_back(&self, iova: u64, len: u64) {
        if !self.physical {
            lock(&self.iovas).give_back(iova, len);
        }
    }
}

/// A card's address space, shared by everything that maps memory for it.
pub struct DmaSpace {
    core: Arc<Core>,
    reads: Arc<Pool>,
    writes: Arc<Pool>,
    pages: HugePages,
    node: Option<u32>,
    fell_back: AtomicBool,
}

impl fmt::Debug for DmaSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaSpace")
            .field("pages", &self.pages)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl DmaSpace {
    /// An empty space of the card behind `mapper`; its memory comes from `node`, where one is named.
    pub fn new(mapper: Arc<dyn Mapper>, pages: HugePages, node: Option<u32>) -> Self {
        let (ranges, page_bytes, physical) = match mapper.addressing() {
            Addressing::Chosen { ranges, page_bytes } => (ranges, page_bytes, false),
            Addressing::Physical => (vec![], PageSize::Base.bytes(), true),
        };
        let (iovas, witness) = (Mutex::new(IovaAllocator::new(&ranges)), OnceLock::new());
        let core = Core { mapper, iovas, page_bytes, physical, witness };
        let (reads, writes) = (Pool::new(), Pool::new());
        Self { core: Arc::new(core), reads, writes, pages, node, fell_back: AtomicBool::new(false) }
    }

    /// Tells the [`Witness`] at `location`, if there is one, of all memory from now on.
    pub fn attended(self, location: &str) -> Self {
        if let Some(witness) = witness::of(location) {
            // A space has one place.
            let _ = self.core.witness.set(witness);
        }
        self
    }

    /// Allocates `len` zeroed bytes, contiguous for the card, aligned to 64 bytes.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]: no bytes asked for, no pages, no addresses, not mapped.
    pub fn allocate(&self, len: u64, access: Access) -> Result<Buffer, MemoryError> {
        self.allocate_from(len, access, true)
    }

    /// As [`allocate`](Self::allocate), with whatever was in the memory before: for what is written as a whole.
    pub(crate) fn allocate_unzeroed(&self, len: u64, access: Access) -> Result<Buffer, MemoryError> {
        self.allocate_from(len, access, false)
    }

    fn allocate_from(&self, len: u64, access: Access, zeroed: bool) -> Result<Buffer, MemoryError> {
        let pool = match access {
            Access::CardReads => &self.reads,
            Access::CardWrites => &self.writes,
        };
        Pool::allocate(pool, len, zeroed, |arena| self.map_ours(arena, access))
    }

    /// Gives the card the caller's own elements: in place where the bus can pin them, but for pages that also hold
    /// other objects, which are staged; all of it staged where it cannot ([`CallerMemory`]).
    ///
    /// # Errors
    ///
    /// [`RegisterError`], which gives the vector back.
    pub fn register<T: ToCard>(
        &self,
        data: Vec<T>,
        access: Access,
    ) -> Result<Registered<T>, RegisterError<T>> {
        Registered::new(self, data, access)
    }

    /// What happens to memory that the caller allocated.
    pub fn caller_memory(&self) -> CallerMemory {
        self.core.mapper.caller_memory()
    }

    /// Whether large allocations had to use small pages because no hugepages were free.
    pub fn fell_back(&self) -> bool {
        self.fell_back.load(Ordering::Relaxed)
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.core.page_bytes
    }

    fn map_ours(&self, len: u64, access: Access) -> Result<Mapping, MemoryError> {
        let mut pages = self.pages;
        // A hole punched into a file of hugepages is SIGBUS when none is free; in one of small pages it reads as zeros.
        if access == Access::CardWrites && pages == HugePages::Prefer && self.core.mapper.shares_files() {
            pages = HugePages::Require(PageSize::Base);
        }
        let memory = HostMemory::allocate(len, pages, self.node, access)?;
        let small = memory.page() == PageSize::Base && pages == self.pages;
        if small && !self.fell_back.swap(true, Ordering::Relaxed) {
            let page = PageSize::Base;
            tracing::warn!(
                "no 2 MiB hugepages are free, using pages of {page}: `echo 64 > /proc/sys/vm/nr_hugepages`"
            );
        }
        // SAFETY: the mapping owns the memory, and shows it through `Allocation` only, which makes no reference to
        // memory that the card may write.
        unsafe { Mapping::new(&self.core, Backing::Ours(memory), access) }
    }

    /// # Safety
    ///
    /// The contract of [`Mapper::map`]: until the mapping is dropped, or by [`Mapping::adopt`], the memory stays.
    pub(super) unsafe fn map_callers(
        &self,
        ptr: *mut u8,
        len: u64,
        access: Access,
    ) -> Result<Mapping, MemoryError> {
        // SAFETY: passed on to our caller.
        unsafe { Mapping::new(&self.core, Backing::Callers { ptr, len }, access) }
    }
}
