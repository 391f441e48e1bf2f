//! A card's address space: DMA mappings, their device addresses and their lifetimes.

use super::buffer::Allocation;
use super::error::RESERVE;
use super::mapper::{Access, Addressing, CallerMemory, Extent, Isolation, Mapper, MemoryRef};
use super::pool::Pool;
use super::release_observer::ReleaseObserver;
use super::sealed::Writers;
use super::shared_memory::SharedMemory;
use super::{
    Buffer, HostMemory, HugePages, IovaAllocator, MapError, MemoryError, PageSize, Process, RegisterError,
    Registered, Running, ToCard, order,
};
use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Identifies an address space, uniquely for the lifetime of the process. A device address is valid only in its own address
/// space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpaceId(u64);

impl SpaceId {
    /// Returns the number of the address space. It is below 2^62, since no process creates that many.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Returns the position of a space's base within the usable addresses, as a fraction of 2^64. Multiples of the golden ratio are
/// evenly spread.
fn share(seed: Option<u64>, id: SpaceId) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    static PROCESS: OnceLock<u64> = OnceLock::new();
    match seed {
        Some(seed) => seed.wrapping_mul(GOLDEN),
        None => {
            PROCESS.get_or_init(|| RandomState::new().hash_one(0)).wrapping_add(id.0.wrapping_mul(GOLDEN))
        }
    }
}

/// The part of an address space that its mappings keep alive, since they need it to be unmapped.
pub(crate) struct SpaceInner {
    id: SpaceId,
    mapper: Arc<dyn Mapper>,
    iovas: Mutex<IovaAllocator>,
    page_bytes: u64,
    physical: bool,
    observer: OnceLock<Arc<dyn ReleaseObserver>>,
    /// Memory without an owner that the card may still use.
    quarantine: Quarantine,
    /// The jobs in flight of each channel.
    channels: Mutex<Vec<Weak<Running>>>,
    process: Process,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind these locks is consistent even if a thread panicked while it held one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs device addresses, so that an IOMMU fault in the kernel's log can be attributed to its memory.
fn trace_addresses(what: &str, extents: &[Extent], access: Access, page: PageSize) {
    for Extent { address, len, .. } in extents {
        let iova = format_args!("{address:#x}..{:#x}", address + len);
        tracing::debug!(%iova, card = %access, pages = %page, "{what}");
    }
}

/// The memory behind a mapping.
pub(super) enum Backing {
    /// Memory that the driver allocated.
    Driver(HostMemory),
    /// Memory that the caller allocated.
    Caller { ptr: *mut u8, len: u64 },
}

// SAFETY: this value owns the memory behind the pointer or keeps it allocated. Only `Allocation` accesses it, and the contracts
// of its methods make that sound from any thread.
unsafe impl Send for Backing {}
// SAFETY: as above.
unsafe impl Sync for Backing {}

impl Backing {
    pub(super) fn ptr(&self) -> *mut u8 {
        match self {
            Self::Driver(memory) => memory.as_ptr(),
            Self::Caller { ptr, .. } => *ptr,
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Driver(memory) => memory.len(),
            Self::Caller { len, .. } => *len,
        }
    }

    fn page(&self) -> PageSize {
        match self {
            Self::Driver(memory) => memory.page(),
            Self::Caller { .. } => PageSize::Base,
        }
    }
}

/// Mapped memory with its device addresses. Only [`SpaceInner::release`] frees it; otherwise it is leaked.
struct MappedMemory {
    backing: ManuallyDrop<Backing>,
    /// The owner of the caller's memory, after its registration was dropped.
    owner: Mutex<Option<Box<dyn Any + Send>>>,
    revoked: AtomicBool,
    extents: Vec<Extent>,
    access: Access,
}

impl MappedMemory {
    /// Revokes the card's access to the memory. The device addresses stay allocated, so they are not reused for other memory.
    fn revoke(&self, mapper: &dyn Mapper) -> Result<(), MapError> {
        if self.revoked.load(Ordering::Acquire) {
            return Ok(());
        }
        mapper.unmap(self.extents[0].address, self.backing.len())?;
        trace_addresses("unmapped", &self.extents, self.access, self.backing.page());
        self.revoked.store(true, Ordering::Release);
        Ok(())
    }

    /// Frees the memory.
    ///
    /// # Safety
    ///
    /// The card can no longer access the memory.
    unsafe fn free(mut self) {
        // SAFETY: dropped only here, where `self` ends.
        unsafe { ManuallyDrop::drop(&mut self.backing) };
    }

    /// Leaves the memory allocated for the lifetime of the process.
    fn leak(&self) {
        std::mem::forget(lock(&self.owner).take());
    }
}

/// Memory of transfers that ended without proof that the engine had finished with them, such as those of a channel that was
/// closed while its registers read all ones. It is never reused.
#[derive(Default)]
struct Quarantine {
    /// Whole mappings without an owner. They are released when the space is dropped, if that is safe.
    mappings: Mutex<Vec<MappedMemory>>,
    /// Total size in bytes of all allocations that were ever quarantined.
    bytes: AtomicU64,
}

/// Memory that is mapped for the card. Dropping it revokes the card's access, then frees the memory.
pub(super) struct Mapping {
    space: Arc<SpaceInner>,
    memory: ManuallyDrop<MappedMemory>,
    /// Whether a use of the memory ended without proof that the card had finished with it.
    unproven: AtomicBool,
}

impl Mapping {
    /// Maps memory for the card.
    ///
    /// # Safety
    ///
    /// The contract of [`Mapper::map`], for the lifetime of the mapping.
    unsafe fn new(space: &Arc<SpaceInner>, backing: Backing, access: Access) -> Result<Self, MemoryError> {
        let len = backing.len();
        let iova = if space.physical { 0 } else { space.allocate_iova(len)? };
        let file = match &backing {
            Backing::Driver(memory) => Some((memory.file(), 0)),
            Backing::Caller { .. } => None,
        };
        let memory = MemoryRef { ptr: backing.ptr(), len, page: backing.page(), file };
        // SAFETY: passed on to our caller.
        let mapped = unsafe { space.mapper.map(memory, iova, access) };
        let extents = mapped.inspect_err(|_| space.free_iova(iova, len))?;
        trace_addresses("mapped", &extents, access, backing.page());
        let (owner, revoked, backing) =
            (Mutex::new(None), AtomicBool::new(false), ManuallyDrop::new(backing));
        let memory = ManuallyDrop::new(MappedMemory { backing, owner, revoked, extents, access });
        Ok(Self { space: space.clone(), memory, unproven: AtomicBool::new(false) })
    }

    pub(super) fn ptr(&self) -> *mut u8 {
        self.memory.backing.ptr()
    }

    pub(super) fn page(&self) -> PageSize {
        self.memory.backing.page()
    }

    pub(super) fn extents(&self) -> &[Extent] {
        &self.memory.extents
    }

    pub(super) fn access(&self) -> Access {
        self.memory.access
    }

    pub(super) fn space(&self) -> SpaceId {
        self.space.id
    }

    /// Calls `notify` with the observer, if there is one, and the device addresses of `len` bytes from `offset` on.
    pub(super) fn notify(&self, offset: u64, len: u64, notify: impl Fn(&dyn ReleaseObserver, u64, u64)) {
        let Some(observer) = self.space.observer.get() else { return };
        for extent in self.extents() {
            let (from, to) = (offset.max(extent.offset), (offset + len).min(extent.offset + extent.len));
            if from < to {
                notify(&**observer, extent.address + (from - extent.offset), to - from);
            }
        }
    }

    /// Returns the number of runs in flight, on any channel, of programs for whose numbers `is_wanted` returns true.
    pub(super) fn runs(&self, is_wanted: &dyn Fn(u64) -> bool) -> usize {
        let channels = lock(&self.space.channels);
        let runs = channels.iter().filter_map(Weak::upgrade).map(|running| running.count(is_wanted)).sum();
        // A channel that was closed has ended all of its jobs.
        order::after_drop();
        runs
    }

    /// Keeps `owner` alive until the card's access to the memory is revoked.
    pub(super) fn attach_owner(&self, owner: Box<dyn Any + Send>) {
        *lock(&self.memory.owner) = Some(owner);
    }

    /// Puts `bytes` of this memory in quarantine: the card may use them as long as it can access them.
    pub(super) fn quarantine(&self, bytes: u64) {
        self.unproven.store(true, Ordering::Release);
        self.space.quarantine.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Revokes the card's access to the memory now. With an IOMMU, `Ok` proves that the card can no longer access it. On other
    /// buses the caller's memory is never mapped, so no proof is needed.
    pub(super) fn revoke(&self) -> Result<(), MapError> {
        self.memory.revoke(&*self.space.mapper)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: taken only once, in drop.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        let proven = !self.unproven.load(Ordering::Acquire);
        if proven || memory.revoked.load(Ordering::Acquire) {
            self.space.release(memory, proven);
        } else {
            // The card may be using the memory now. It is released, if possible, after the card is closed.
            lock(&self.space.quarantine.mappings).push(memory);
        }
    }
}

impl SpaceInner {
    fn allocate_iova(&self, len: u64) -> Result<u64, MemoryError> {
        // Aligned to the largest page size that does not exceed the length, so that the IOMMU can use large pages.
        let align = [PageSize::Huge1G, PageSize::Huge2M].iter().map(|p| p.bytes()).find(|&b| len >= b);
        let align = align.unwrap_or(self.page_bytes);
        lock(&self.iovas).allocate(len, align).ok_or(MemoryError::NoAddresses { len })
    }

    fn free_iova(&self, iova: u64, len: u64) {
        if !self.physical {
            lock(&self.iovas).free(iova, len);
        }
    }

    /// Unmaps memory without an owner and frees it, or leaks it if the card may still access it. `proven` states that all uses of
    /// the memory ended with proof: the completed count passed them, or their engine was seen idle.
    ///
    /// | bus | proof that the card cannot access the memory |
    /// |---|---|
    /// | IOMMU | it was successfully unmapped |
    /// | vfio-user | none is needed: the file is closed here and never used again |
    /// | no IOMMU | all uses ended with proof, or Bus Master was read back as clear |
    fn release(&self, memory: MappedMemory, proven: bool) {
        if self.process.is_forked() {
            // The mapping belongs to the parent, and a forked child does not inherit the memory.
            return memory.leak();
        }
        let unmapped = memory.revoke(&*self.mapper);
        if unmapped.is_ok() {
            self.free_iova(memory.extents[0].address, memory.backing.len());
        }
        let unreachable = match self.mapper.isolation() {
            Isolation::Iommu => unmapped.is_ok(),
            Isolation::SharedFile => true,
            Isolation::None => proven || self.mapper.is_cut_off(),
        };
        if unreachable {
            // SAFETY: the card can no longer access the memory, as just established for each kind of bus.
            return unsafe { memory.free() };
        }
        let (bytes, error) = (memory.backing.len(), unmapped.err().map(tracing::field::display));
        tracing::error!(
            bytes,
            error,
            "the card may still access memory; the memory stays allocated for the lifetime of the process"
        );
        memory.leak();
    }
}

impl Drop for SpaceInner {
    fn drop(&mut self) {
        // The card is closed by now, and its Bus Master bit cleared if that was possible.
        for memory in std::mem::take(&mut *lock(&self.quarantine.mappings)) {
            self.release(memory, false);
        }
    }
}

/// A card's address space, shared by everything that maps memory for the card.
pub struct DmaSpace {
    inner: Arc<SpaceInner>,
    reads: Arc<Pool>,
    writes: Arc<Pool>,
    pages: HugePages,
    node: Option<u32>,
    fell_back: AtomicBool,
    /// Number of bytes allocated since then.
    allocated: AtomicU64,
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
    /// Creates an empty address space for the card behind `mapper`. Memory is allocated on NUMA node `node`, if given.
    ///
    /// If the driver chooses device addresses, each space has a different base, so that an address of one card is not valid for
    /// another. `seed` determines the base. Without a seed, the base differs between the spaces of a process and between
    /// processes.
    pub fn new(mapper: Arc<dyn Mapper>, pages: HugePages, node: Option<u32>, seed: Option<u64>) -> Self {
        let (ranges, page_bytes, physical) = match mapper.addressing() {
            Addressing::Chosen { ranges, page_bytes } => (ranges, page_bytes, false),
            Addressing::Physical => (vec![], PageSize::Base.bytes(), true),
        };
        let (id, mut iovas) = (SpaceId::new(), IovaAllocator::new(&ranges));
        iovas.set_base(share(seed, id));
        let iovas = Mutex::new(iovas);
        let inner = SpaceInner {
            id,
            mapper,
            iovas,
            page_bytes,
            physical,
            observer: OnceLock::new(),
            quarantine: Quarantine::default(),
            channels: Mutex::default(),
            process: Process::this(),
        };
        let (reads, writes) = (Pool::new(pages), Pool::new(pages));
        Self {
            inner: Arc::new(inner),
            reads,
            writes,
            pages,
            node,
            fell_back: AtomicBool::new(false),
            allocated: AtomicU64::new(0),
        }
    }

    /// Reports all allocations and releases from now on to `observer`.
    pub fn with_observer(self, observer: Arc<dyn ReleaseObserver>) -> Self {
        // The observer is set only once, when the space is created.
        let _ = self.inner.observer.set(observer);
        self
    }

    /// Allocates `len` zeroed bytes, contiguous for the card, aligned to 64 bytes.
    ///
    /// # Errors
    ///
    /// [`MemoryError`]: the length is zero, no pages or device addresses are free, or the mapping fails.
    pub fn allocate(&self, len: u64, access: Access) -> Result<Buffer, MemoryError> {
        self.allocate_from(len, access, true)
    }

    /// Allocates like [`allocate`](Self::allocate), but does not zero the memory. For buffers that are completely overwritten.
    pub(crate) fn allocate_unzeroed(&self, len: u64, access: Access) -> Result<Buffer, MemoryError> {
        self.allocate_from(len, access, false)
    }

    fn allocate_from(&self, len: u64, access: Access, zeroed: bool) -> Result<Buffer, MemoryError> {
        let pool = match access {
            Access::CardReads => &self.reads,
            Access::CardWrites => &self.writes,
        };
        let buffer = Pool::allocate(pool, len, zeroed, |bytes| self.map_host_memory(bytes, access))?;
        if self.fell_back() && self.is_warning_due(len) {
            let page = PageSize::Base;
            tracing::warn!(
                "no 2 MiB hugepages are free, so pages of {page} are used; to reserve 64 more, run `{RESERVE}`"
            );
        }
        Ok(buffer)
    }

    /// Counts an allocation in small pages. Returns true once, when as much as a hugepage was allocated: less gains little from one.
    pub(super) fn is_warning_due(&self, len: u64) -> bool {
        let before = self.allocated.fetch_add(len, Ordering::Relaxed);
        let page = PageSize::Huge2M.bytes();
        before < page && before.saturating_add(len) >= page
    }

    /// Registers the caller's own vector. If the bus can pin memory, the vector is used in place, except for pages that may also
    /// contain other objects, which are staged. Otherwise all of it is staged ([`CallerMemory`]).
    ///
    /// # Errors
    ///
    /// [`RegisterError`], which returns the vector.
    pub fn register<T: ToCard>(
        &self,
        data: Vec<T>,
        access: Access,
    ) -> Result<Registered<T>, RegisterError<T>> {
        Registered::new(self, data, access)
    }

    /// Returns how memory that the caller allocated is handled.
    pub fn caller_memory(&self) -> CallerMemory {
        self.inner.mapper.caller_memory()
    }

    pub(crate) fn id(&self) -> SpaceId {
        self.inner.id
    }

    /// Adds a channel whose first job will have the number `first`. Its jobs count as in flight until the returned list is
    /// dropped.
    pub(crate) fn add_channel(&self, first: u64) -> Arc<Running> {
        let running = Arc::new(Running::new(first));
        let mut channels = lock(&self.inner.channels);
        channels.retain(|channel| channel.strong_count() > 0);
        // For `runs` in any thread, which no longer finds the channels that were closed.
        order::after_drop();
        channels.push(Arc::downgrade(&running));
        running
    }

    /// Returns the base of the device addresses; `None` if they are physical.
    pub(crate) fn base(&self) -> Option<u64> {
        (!self.inner.physical).then(|| lock(&self.inner.iovas).base())
    }

    /// Returns the number of bytes in quarantine: memory of transfers that ended without proof that the card had finished with
    /// it. They stay allocated until the card is closed, or for the lifetime of the process if closing it provides no proof
    /// either.
    pub(crate) fn quarantined_bytes(&self) -> u64 {
        self.inner.quarantine.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether allocations used small pages because no hugepages were free.
    pub fn fell_back(&self) -> bool {
        self.fell_back.load(Ordering::Relaxed)
    }

    pub(super) fn page_bytes(&self) -> u64 {
        self.inner.page_bytes
    }

    fn map_host_memory(&self, len: u64, access: Access) -> Result<Mapping, MemoryError> {
        let mut pages = self.pages;
        // Accessing a hole in a file of hugepages raises SIGBUS if no hugepage is free. A hole in a file of small pages reads as
        // zeros.
        if access == Access::CardWrites && pages == HugePages::Prefer && self.inner.mapper.shares_files() {
            pages = HugePages::Require(PageSize::Base);
        }
        let writers = match access {
            Access::CardReads => Writers::Mapped,
            Access::CardWrites => Writers::All,
        };
        let memory = HostMemory::allocate(len, pages, self.node, writers)?;
        if memory.page() == PageSize::Base && pages == HugePages::Prefer {
            self.fell_back.store(true, Ordering::Relaxed);
        }
        // SAFETY: the mapping owns the memory. It is accessed only through `Allocation`, which creates no reference to memory
        // that the card may write.
        unsafe { Mapping::new(&self.inner, Backing::Driver(memory), access) }
    }

    /// Allocates memory of whole pages that other processes can map and write ([`SharedMemory`]).
    pub(crate) fn allocate_shared(&self, len: u64, access: Access) -> Result<SharedMemory, MemoryError> {
        // Without an IOMMU, nothing would keep the pages if a process punched a hole into the file.
        if self.inner.physical {
            return Err(MapError::NotShareable.into());
        }
        let pages = HugePages::Require(PageSize::Base);
        let memory = HostMemory::allocate(len, pages, self.node, Writers::All)?;
        let file = memory.file().try_clone().map_err(|cause| MemoryError::Allocate {
            len,
            page: PageSize::Base,
            cause,
        })?;
        let len = memory.len();
        // SAFETY: the mapping owns the memory. This process accesses it only through transfers.
        let mapping = unsafe { Mapping::new(&self.inner, Backing::Driver(memory), access)? };
        Ok(SharedMemory::new(Buffer::new(Allocation::new(Arc::new(mapping), 0, len, None)), file))
    }

    /// Maps the caller's memory.
    ///
    /// # Safety
    ///
    /// The contract of [`Mapper::map`]: the memory stays allocated until the mapping is dropped, or its owner is passed to
    /// [`Mapping::attach_owner`].
    pub(super) unsafe fn map_caller_memory(
        &self,
        ptr: *mut u8,
        len: u64,
        access: Access,
    ) -> Result<Mapping, MemoryError> {
        // SAFETY: passed on to our caller.
        unsafe { Mapping::new(&self.inner, Backing::Caller { ptr, len }, access) }
    }
}
