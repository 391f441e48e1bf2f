use super::PageSize;
use std::io;

/// Why a bus could not map memory for the card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The kernel or the card's process refused.
    #[error("mapping {len:#x} bytes at IOVA {iova:#x} was refused: {cause}")]
    Refused {
        /// Address asked for.
        iova: u64,
        /// Bytes.
        len: u64,
        /// What was answered.
        cause: io::Error,
    },
    /// This bus cannot give the card memory that has no file descriptor.
    #[error(
        "this bus cannot share memory that has no file descriptor; allocate it from the card, or register it"
    )]
    NotShareable,
    /// The kernel would have to lock more memory than this process may have locked.
    #[error(
        "pinning {len:#x} bytes goes beyond this process' limit of {} (RLIMIT_MEMLOCK; hugepages count): raise it with \
         `ulimit -l unlimited`, or LimitMEMLOCK=infinity for a service",
        limit_text(*.limit)
    )]
    Locked {
        /// Bytes to be pinned.
        len: u64,
        /// The limit, in bytes; all ones if there is none.
        limit: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel keeps no more mappings.
    #[error(
        "the kernel's limit of mappings is reached (65,535 unless set): use fewer and larger buffers, or raise \
         dma_entry_limit of the module vfio_iommu_type1"
    )]
    TooMany {
        /// What the kernel said.
        source: io::Error,
    },
    /// Without an IOMMU only hugepages can be used.
    #[error(
        "without an IOMMU the card can use only hugepages, because other pages may move; to reserve some, run as root: \
         `echo 64 > /proc/sys/vm/nr_hugepages`"
    )]
    NeedsHugePages,
    /// The physical address of memory cannot be found.
    #[error("no physical address: {reason}")]
    NoPhysical {
        /// Why not.
        reason: String,
    },
    /// The link to the card is lost.
    #[error("the card's link is gone: {0}")]
    Gone(String),
}

/// Why memory could not be had or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Zero bytes or elements were asked for.
    #[error("the buffer is empty; a transfer moves at least one byte")]
    Empty,
    /// No pages of this size could be allocated.
    #[error("cannot allocate {len:#x} bytes in pages of {page}: {cause}; {}", hint(*.page))]
    Allocate {
        /// Bytes.
        len: u64,
        /// Size of the pages.
        page: PageSize,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The machine, or a control group of this process, has less memory left.
    #[error(
        "cannot allocate {len:#x} bytes: {limit} has {available:#x} bytes left; ask for less, end other programs, or raise the limit"
    )]
    Exhausted {
        /// Bytes asked for.
        len: u64,
        /// Bytes that can be had, with a margin for everything else.
        available: u64,
        /// Whose limit it is: the machine's or a control group's.
        limit: String,
    },
    /// The card's address space has no hole of this size left.
    #[error("no {len:#x} bytes of device addresses are free; release buffers, or use fewer and larger ones")]
    NoAddresses {
        /// Bytes.
        len: u64,
    },
    /// The mapping failed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A range leaves the buffer.
    #[error("bytes {start:#x}..{end:#x} leave the buffer of {len:#x} bytes")]
    OutOfRange {
        /// First byte.
        start: u64,
        /// Byte after the last.
        end: u64,
        /// Length of the buffer.
        len: u64,
    },
    /// An offset is not aligned as the element type demands.
    #[error("offset {offset:#x} is not a multiple of {align}, the element's alignment")]
    Unaligned {
        /// Offset in bytes.
        offset: u64,
        /// Alignment in bytes.
        align: usize,
    },
    /// A transfer that uses the memory is not finished.
    #[error("{0} transfer(s) that use this memory are still in flight; wait for their tickets first")]
    InFlight(usize),
    /// A transfer that used the memory was given up without proof that the card is done with it.
    #[error(
        "the card may still access this memory: its channel was closed before the engine was seen idle. Drop this buffer and \
         allocate another; it is freed once the card is closed and can no longer reach it"
    )]
    Quarantined,
    /// The card may write this memory, so it is not shown as a slice, or it may only read it.
    #[error("the card {has} this memory; {remedy}")]
    WrongAccess {
        /// What the card may do.
        has: super::Access,
        /// What to do instead.
        remedy: &'static str,
    },
}

fn hint(page: PageSize) -> &'static str {
    match page {
        PageSize::Base => "free some memory",
        PageSize::Huge2M => {
            "reserve hugepages with `echo 64 > /proc/sys/vm/nr_hugepages`, or allow smaller pages"
        }
        PageSize::Huge1G => "reserve them at boot with `hugepagesz=1G hugepages=N`, or allow smaller pages",
    }
}

fn limit_text(limit: u64) -> String {
    if limit == u64::MAX { "any number of bytes".into() } else { format!("{} KiB", limit >> 10) }
}
