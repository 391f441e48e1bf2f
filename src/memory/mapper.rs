//! What a bus does for memory: maps it for the card, and takes it away.

use super::{MapError, PageSize};
use std::fmt;
use std::fs::File;
use std::ops::RangeInclusive;

/// How a card may access memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The card reads the memory: H2C data and descriptors.
    CardReads,
    /// The card writes the memory: C2H data and write-backs.
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

/// A range of a mapping that is contiguous for the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the mapping in bytes.
    pub offset: u64,
    /// Device address.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// How the device addresses of a bus are determined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// The driver chooses them from these ranges, at multiples of `page_bytes`.
    Chosen {
        /// The usable ranges.
        ranges: Vec<RangeInclusive<u64>>,
        /// Granularity of mappings in bytes.
        page_bytes: u64,
    },
    /// They are physical addresses, which are contiguous only within a page.
    Physical,
}

/// How a bus handles memory that the caller allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerMemory {
    /// It is pinned, and the card uses it in place.
    Pinned,
    /// It is copied through memory of the driver, for the given reason.
    Staged(&'static str),
}

/// Memory to map.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRef<'a> {
    /// Address of the first byte in this process.
    pub ptr: *mut u8,
    /// Length in bytes. Both `ptr` and `len` are multiples of the bus's granularity.
    pub len: u64,
    /// Its page size. The memory is physically contiguous within each page.
    pub page: PageSize,
    /// The file that it is a mapping of, if any, and the offset in the file.
    pub file: Option<(&'a File, u64)>,
}

/// What prevents a card from accessing memory that was unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// An IOMMU: the card cannot access unmapped memory, whatever its engines do.
    Iommu,
    /// The card is another process that maps the memory's file and may keep its mapping. The file is never reused, so later
    /// writes to it are harmless.
    SharedFile,
    /// Nothing: the card uses physical addresses, and can access all memory while its Bus Master bit is set.
    None,
}

/// The part of a bus that gives a card access to memory.
///
/// # Safety
///
/// [`unmap`](Self::unmap), [`isolation`](Self::isolation) and [`is_cut_off`](Self::is_cut_off) decide when memory is freed, so
/// their results must be correct. With [`Isolation::SharedFile`], [`caller_memory`](Self::caller_memory) returns
/// [`CallerMemory::Staged`].
pub unsafe trait Mapper: Send + Sync {
    /// Returns how device addresses are determined.
    fn addressing(&self) -> Addressing;

    /// Returns how memory that the caller allocated is handled.
    fn caller_memory(&self) -> CallerMemory;

    /// Returns whether another process receives the memory files, and can thus punch holes into memory that the card may write.
    fn shares_files(&self) -> bool {
        false
    }

    /// Maps memory at device address `iova`, which is ignored with [`Addressing::Physical`].
    ///
    /// # Errors
    ///
    /// [`MapError`]. On an error, nothing is mapped.
    ///
    /// # Safety
    ///
    /// Until [`unmap`](Self::unmap) has returned `Ok`, the memory stays allocated. If the card may write it, no Rust reference to
    /// it exists; if the card reads it, it contains only plain bytes.
    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError>;

    /// Removes a whole mapping. What `Ok` guarantees depends on the [`isolation`](Self::isolation).
    ///
    /// # Errors
    ///
    /// [`MapError`]. On an error, the card may still be able to access the memory.
    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError>;

    /// Returns what prevents the card from accessing unmapped memory.
    fn isolation(&self) -> Isolation;

    /// Returns whether the card cannot start any access to host memory now, because its Bus Master bit reads back as clear.
    /// Called only with [`Isolation::None`].
    fn is_cut_off(&self) -> bool {
        false
    }
}
