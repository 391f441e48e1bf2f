//! One card's address space: what is mapped where, for how long.

use super::pool::Pool;
use super::witness::Witness;
use super::{
    Buffer, HostMemory, HugePages, IovaAllocator, MapError, MemoryError, PageSize, Process, RegisterError,
    Registered, Running, ToCard,
};
use std::any::Any;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

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

/// What keeps memory out of a card's reach once it was unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// An IOMMU: the card cannot reach what is not mapped, whatever its engines do.
    Iommu,
    /// The card is another process, which maps the memory's file and may keep that map. The file is never used for anything
    /// else, so what is written to it afterwards harms nobody.
    SharedFile,
    /// Nothing: the card uses physical addresses, and reaches all memory while it may access the bus.
    None,
}

/// The part of a bus that gives a card access to memory.
///
/// # Safety
///
/// [`unmap`](Self::unmap), [`isolation`](Self::isolation) and [`is_cut_off`](Self::is_cut_off) decide when memory is freed, so they
/// tell the truth. With [`Isolation::SharedFile`], [`caller_memory`](Self::caller_memory) is [`CallerMemory::Staged`].
pub unsafe trait Mapper: Send + Sync {
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

    /// Takes back a mapping as a whole. What `Ok` proves depends on the [`isolation`](Self::isolation).
    ///
    /// # Errors
    ///
    /// [`MapError`]: the card may still reach the memory.
    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError>;

    /// What keeps unmapped memory out of the card's reach.
    fn isolation(&self) -> Isolation;

    /// Whether the card cannot start any access to host memory now: its Bus Master bit was read back as clear. Asked only with
    /// [`Isolation::None`].
    fn is_cut_off(&self) -> bool {
        false
    }
}

/// Names an address space, for the life of the process. Device addresses mean nothing outside of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpaceId(u64);

impl SpaceId {
    /// Below 2^62: no process makes so many.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How far into the allowed addresses a space begins, of 2^64. Multiples of the golden ratio never come close to each other.
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

/// What outlives the space itself: mappings in flight need it to go away.
pub(crate) struct Core {
    id: SpaceId,
    mapper: Arc<dyn Mapper>,
    iovas: Mutex<IovaAllocator>,
    page_bytes: u64,
    physical: bool,
    witness: OnceLock<Arc<dyn Witness>>,
    /// Memory that nobody holds any more and that the card may still use: see [`Quarantine`].
    quarantine: Quarantine,
    /// What the jobs of each channel are that are in flight.
    channels: Mutex<Vec<Weak<Running>>>,
    process: Process,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two updates of these maps cannot happen, so a poisoned lock still holds whole data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Traces device addresses, so that an IOMMU fault in the kernel's log can be told to its memory.
fn trace_addresses(what: &str, extents: &[Extent], access: Access, page: PageSize) {
    for Extent { address, len, .. } in extents {
        let iova = format_args!("{address:#x}..{:#x}", address + len);
        tracing::debug!(%iova, card = %access, pages = %page, "{what}");
    }
}

pub(super) enum Backing {
    Ours(HostMemory),
    Callers { ptr: *mut u8, len: u64 },
}

// SAFETY: the pointer is to memory that this value owns or keeps allocated, and `Allocation` alone accesses it, whose methods say
// how.
unsafe impl Send for Backing {}
// SAFETY: as above.
unsafe impl Sync for Backing {}

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

    fn page(&self) -> PageSize {
        match self {
            Self::Ours(memory) => memory.page(),
            Self::Callers { .. } => PageSize::Base,
        }
    }
}

/// Memory with its device addresses. It is freed by [`Core::release`] alone, and leaked otherwise.
struct Region {
    backing: ManuallyDrop<Backing>,
    /// What owns the caller's memory, once its handle was dropped.
    owner: Mutex<Option<Box<dyn Any + Send>>>,
    revoked: AtomicBool,
    extents: Vec<Extent>,
    access: Access,
}

impl Region {
    /// Takes the memory away from the card. Its addresses stay taken, so that nothing else is reached by them.
    fn revoke(&self, mapper: &dyn Mapper) -> Result<(), MapError> {
        if self.revoked.load(Ordering::Acquire) {
            return Ok(());
        }
        mapper.unmap(self.extents[0].address, self.backing.len())?;
        trace_addresses("unmapped", &self.extents, self.access, self.backing.page());
        self.revoked.store(true, Ordering::Release);
        Ok(())
    }

    /// # Safety
    ///
    /// The card can no longer reach the memory.
    unsafe fn free(mut self) {
        // SAFETY: dropped here only; `self` ends here.
        unsafe { ManuallyDrop::drop(&mut self.backing) };
    }

    /// Leaves the memory allocated for the life of the process.
    fn leak(&self) {
        std::mem::forget(lock(&self.owner).take());
    }
}

/// Memory of transfers that ended without proof that the engine was done with them, such as those of a channel that was closed
/// while its registers read all ones. None of it is used again.
#[derive(Default)]
struct Quarantine {
    /// Whole mappings that nobody holds any more. They are released, if that can be done safely, when the space ends.
    regions: Mutex<Vec<Region>>,
    /// Bytes of all allocations that were ever condemned.
    bytes: AtomicU64,
}

/// Memory that the card can reach. Dropping it takes the memory away from the card, then frees it.
pub(super) struct Mapping {
    core: Arc<Core>,
    region: ManuallyDrop<Region>,
    /// A use of the memory ended without proof that the card was done with it.
    unproven: AtomicBool,
}

impl Mapping {
    /// # Safety
    ///
    /// The contract of [`Mapper::map`], for as long as the mapping lives.
    unsafe fn new(core: &Arc<Core>, backing: Backing, access: Access) -> Result<Self, MemoryError> {
        let len = backing.len();
        let iova = if core.physical { 0 } else { core.take(len)? };
        let file = match &backing {
            Backing::Ours(memory) => Some((memory.file(), 0)),
            Backing::Callers { .. } => None,
        };
        let memory = MemoryRef { ptr: backing.ptr(), len, page: backing.page(), file };
        // SAFETY: passed on to our caller.
        let mapped = unsafe { core.mapper.map(memory, iova, access) };
        let extents = mapped.inspect_err(|_| core.give_back(iova, len))?;
        trace_addresses("mapped", &extents, access, backing.page());
        let (owner, revoked, backing) =
            (Mutex::new(None), AtomicBool::new(false), ManuallyDrop::new(backing));
        let region = ManuallyDrop::new(Region { backing, owner, revoked, extents, access });
        Ok(Self { core: core.clone(), region, unproven: AtomicBool::new(false) })
    }

    pub(super) fn ptr(&self) -> *mut u8 {
        self.region.backing.ptr()
    }

    pub(super) fn page(&self) -> PageSize {
        self.region.backing.page()
    }

    pub(super) fn extents(&self) -> &[Extent] {
        &self.region.extents
    }

    pub(super) fn access(&self) -> Access {
        self.region.access
    }

    pub(super) fn space(&self) -> SpaceId {
        self.core.id
    }

    /// Calls the witness with the addresses of `len` bytes from `offset` on.
    pub(super) fn tell(&self, offset: u64, len: u64, what: impl Fn(&dyn Witness, u64, u64)) {
        let Some(witness) = self.core.witness.get() else { return };
        for extent in self.extents() {
            let (from, to) = (offset.max(extent.offset), (offset + len).min(extent.offset + extent.len));
            if from < to {
                what(&**witness, extent.address + (from - extent.offset), to - from);
            }
        }
    }

    /// Runs in flight, on any channel, of the programs whose numbers are `wanted`.
    pub(super) fn runs(&self, wanted: &dyn Fn(u64) -> bool) -> usize {
        let channels = lock(&self.core.channels);
        channels.iter().filter_map(Weak::upgrade).map(|running| running.count(wanted)).sum()
    }

    /// Keeps `owner` until the memory was taken away from the card.
    pub(super) fn adopt(&self, owner: Box<dyn Any + Send>) {
        *lock(&self.region.owner) = Some(owner);
    }

    /// The card may go on using `bytes` of this memory for as long as it can reach it.
    pub(super) fn condemn(&self, bytes: u64) {
        self.unproven.store(true, Ordering::Release);
        self.core.quarantine.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes the memory away from the card now. With an IOMMU, `Ok` proves that the card can no longer reach it; elsewhere nothing
    /// of the caller's is mapped, so nothing needs that proof.
    pub(super) fn revoke(&self) -> Result<(), MapError> {
        self.region.revoke(&*self.core.mapper)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: taken once, in drop.
        let region = unsafe { ManuallyDrop::take(&mut self.region) };
        let proven = !self.unproven.load(Ordering::Acquire);
        if proven || region.revoked.load(Ordering::Acquire) {
            self.core.release(region, proven);
        } else {
            // The card may be using it at this moment. It is looked at again when the card was closed.
            lock(&self.core.quarantine.regions).push(region);
        }
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

    /// Unmaps a region that nobody holds any more and frees it, or leaks it where the card may still reach it. `proven` says that
    /// all uses of it ended with proof: the completed count passed them, or their engine was seen idle.
    ///
    /// | bus | proof that the card cannot reach it |
    /// |---|---|
    /// | IOMMU | it was successfully unmapped |
    /// | vfio-user | none is needed: the file is closed here, and never used again |
    /// | no IOMMU | all uses ended with proof, or Bus Master was read back as clear |
    fn release(&self, region: Region, proven: bool) {
        if self.process.is_forked() {
            // The mapping is the parent's, and its memory is not here.
            return region.leak();
        }
        let unmapped = region.revoke(&*self.mapper);
        if unmapped.is_ok() {
            self.give_back(region.extents[0].address, region.backing.len());
        }
        let unreachable = match self.mapper.isolation() {
            Isolation::Iommu => unmapped.is_ok(),
            Isolation::SharedFile => true,
            Isolation::None => proven || self.mapper.is_cut_off(),
        };
        if unreachable {
            // SAFETY: just shown, bus by bus.
            return unsafe { region.free() };
        }
        let (bytes, error) = (region.backing.len(), unmapped.err().map(tracing::field::display));
        tracing::error!(
            bytes,
            error,
            "the card may still reach memory; it stays allocated for the life of the process"
        );
        region.leak();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The card was closed, and with it Bus Master cleared, if that could be done.
        for region in std::mem::take(&mut *lock(&self.quarantine.regions)) {
            self.release(region, false);
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
    ///
    /// Where the driver chooses device addresses, each space begins at another, so that an address of one card means nothing to
    /// another. `seed` decides where; without one, each space of a process begins elsewhere, and each process too.
    pub fn new(mapper: Arc<dyn Mapper>, pages: HugePages, node: Option<u32>, seed: Option<u64>) -> Self {
        let (ranges, page_bytes, physical) = match mapper.addressing() {
            Addressing::Chosen { ranges, page_bytes } => (ranges, page_bytes, false),
            Addressing::Physical => (vec![], PageSize::Base.bytes(), true),
        };
        let (id, mut iovas) = (SpaceId::new(), IovaAllocator::new(&ranges));
        iovas.set_base(share(seed, id));
        let iovas = Mutex::new(iovas);
        let core = Core {
            id,
            mapper,
            iovas,
            page_bytes,
            physical,
            witness: OnceLock::new(),
            quarantine: Quarantine::default(),
            channels: Mutex::default(),
            process: Process::this(),
        };
        let (reads, writes) = (Pool::new(pages), Pool::new(pages));
        Self { core: Arc::new(core), reads, writes, pages, node, fell_back: AtomicBool::new(false) }
    }

    /// Tells `witness` of all memory from now on.
    pub fn witnessed_by(self, witness: Arc<dyn Witness>) -> Self {
        // A space is made once.
        let _ = self.core.witness.set(witness);
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

    pub(crate) fn id(&self) -> SpaceId {
        self.core.id
    }

    /// A channel that will have jobs in flight, the first of which has the number `first`. They count as long as what is returned lives.
    pub(crate) fn add_channel(&self, first: u64) -> Arc<Running> {
        let running = Arc::new(Running::new(first));
        let mut channels = lock(&self.core.channels);
        channels.retain(|channel| channel.strong_count() > 0);
        channels.push(Arc::downgrade(&running));
        running
    }

    /// Where device addresses begin; `None` where they are physical.
    pub(crate) fn base(&self) -> Option<u64> {
        (!self.core.physical).then(|| lock(&self.core.iovas).base())
    }

    /// Bytes that stay allocated because a transfer that used them ended without proof that the card was done with them: until the
    /// card is closed, and where that is no proof either, for the life of the process.
    pub(crate) fn quarantined_bytes(&self) -> u64 {
        self.core.quarantine.bytes.load(Ordering::Relaxed)
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
