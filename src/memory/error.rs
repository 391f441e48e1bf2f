use super::PageSize;
use crate::Remedy;
use std::io;

/// Why a bus could not map memory for the card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The kernel or the card's process refused.
    #[error("mapping {len:#x} bytes at IOVA {iova:#x} was refused: {cause}")]
    Refused {
        /// The device address requested.
        iova: u64,
        /// Length in bytes.
        len: u64,
        /// The error that was returned.
        cause: io::Error,
    },
    /// This bus can share only memory that has a file descriptor.
    #[error(
        "this bus cannot share memory that has no file descriptor; allocate it from the card, or register it"
    )]
    NotShareable,
    /// The mapping would exceed the amount of memory that this process may lock.
    #[error(
        "pinning {len:#x} bytes exceeds this process's limit (RLIMIT_MEMLOCK is {}; hugepages count): raise it, for \
         this shell with `sudo prlimit --pid $$ --memlock=unlimited`, for a service with LimitMEMLOCK=infinity",
        limit_text(*.limit)
    )]
    Locked {
        /// Number of bytes to be pinned.
        len: u64,
        /// The limit, in bytes; all ones if there is none.
        limit: u64,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel's limit on the number of mappings is reached.
    #[error(
        "the kernel's limit on the number of mappings is reached (65,535 by default): use fewer and larger buffers, or raise \
         dma_entry_limit of the module vfio_iommu_type1"
    )]
    TooMany {
        /// The kernel's error.
        source: io::Error,
    },
    /// Without an IOMMU, only hugepages can be used.
    #[error(
        "without an IOMMU the card can use only hugepages, because other pages may move; to reserve 64 more, run `{}`",
        RESERVE
    )]
    NeedsHugePages,
    /// The physical address of memory cannot be determined.
    #[error("cannot determine the physical address: {reason}")]
    NoPhysical {
        /// The reason.
        reason: String,
    },
    /// The connection to the card was lost.
    #[error("the connection to the card was lost: {0}")]
    Gone(String),
}

/// Why memory could not be allocated, mapped or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The length is zero.
    #[error("the buffer is empty; a transfer moves at least one byte")]
    Empty,
    /// No pages of this size could be allocated.
    #[error("cannot allocate {len:#x} bytes in pages of {page}: {cause}; {}", hint(*.page))]
    Allocate {
        /// Length in bytes.
        len: u64,
        /// The page size.
        page: PageSize,
        /// The kernel's error.
        cause: io::Error,
    },
    /// The machine or one of this process's control groups does not have enough memory available.
    #[error(
        "cannot allocate {len:#x} bytes: {limit} has {available:#x} bytes left; allocate less, end other programs, or raise the limit"
    )]
    Exhausted {
        /// Number of bytes requested.
        len: u64,
        /// Number of bytes available, less a margin for the rest of the system.
        available: u64,
        /// What imposes the limit: the machine or a control group.
        limit: String,
    },
    /// The card's address space has no free range of this size.
    #[error(
        "the card's address space has no free range of {len:#x} bytes; release buffers, or use fewer and larger ones"
    )]
    NoAddresses {
        /// Length in bytes.
        len: u64,
    },
    /// The mapping failed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A range extends past the end of the buffer.
    #[error("bytes {start:#x}..{end:#x} are outside the buffer of {len:#x} bytes")]
    OutOfRange {
        /// Start of the range.
        start: u64,
        /// End of the range, exclusive.
        end: u64,
        /// Length of the buffer in bytes.
        len: u64,
    },
    /// An offset does not have the alignment of the element type.
    #[error("offset {offset:#x} is not a multiple of {align}, the element's alignment")]
    Unaligned {
        /// The offset in bytes.
        offset: u64,
        /// The required alignment in bytes.
        align: usize,
    },
    /// Transfers that use the memory are in flight.
    #[error("{0} transfer(s) that use this memory are still in flight; wait for their tickets first")]
    InFlight(usize),
    /// A transfer that used the memory ended without proof that the card has finished with it.
    #[error(
        "the card may still access this memory: its channel was closed before the engine was seen idle. Drop this buffer and \
         allocate another; the memory is freed once the card is closed and can no longer access it"
    )]
    Quarantined,
    /// The operation does not match the card's access to the memory: memory that the card may write is not available as a slice.
    #[error("the card {has} this memory; {remedy}")]
    WrongAccess {
        /// The card's access.
        has: super::Access,
        /// The alternative.
        remedy: &'static str,
    },
}

impl MapError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Refused { .. } | Self::Locked { .. } | Self::NeedsHugePages | Self::NoPhysical { .. } => {
                Remedy::PrepareHost
            }
            Self::NotShareable | Self::TooMany { .. } => Remedy::Correct,
            Self::Gone(_) => Remedy::Reopen,
        }
    }
}

impl MemoryError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Empty
            | Self::OutOfRange { .. }
            | Self::Unaligned { .. }
            | Self::WrongAccess { .. }
            | Self::Quarantined
            | Self::NoAddresses { .. } => Remedy::Correct,
            Self::Allocate { .. } | Self::Exhausted { .. } => Remedy::PrepareHost,
            Self::Map(error) => error.remedy(),
            Self::InFlight(_) => Remedy::TryAgain,
        }
    }
}

/// Reserves 64 more hugepages of 2 MiB.
pub(super) const RESERVE: &str =
    "f=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages; echo $(($(cat $f) + 64)) | sudo tee $f";

fn hint(page: PageSize) -> String {
    match page {
        PageSize::Base => "free some memory".into(),
        PageSize::Huge2M => format!("reserve hugepages with `{RESERVE}`, or allow smaller pages"),
        PageSize::Huge1G => {
            "reserve them at boot with `hugepagesz=1G hugepages=N`, or allow smaller pages".into()
        }
    }
}

fn limit_text(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { format!("{} KiB", limit >> 10) }
}
