//! DMA mappings: through an IOMMU, or by physical address.

use super::ioctl::{self, Limits};
use super::pagemap::Pagemap;
use crate::memory::{Access, Addressing, CallerMemory, Extent, Isolation, MapError, MemoryRef};
use iommufd_bindings::iommufd::{
    iommu_ioas_map, iommu_ioas_unmap, iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use iommufd_ioctls::IommufdError;
use std::io;
use std::sync::{Arc, OnceLock};
use vfio_bindings::bindings::vfio::{VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE};
use vfio_ioctls::{VfioContainer, VfioIommufd};

/// How the card's addresses are translated.
pub(super) enum Translation {
    /// By the IOMMU, through a container.
    Type1(Arc<VfioContainer>),
    /// By the IOMMU, through an iommufd.
    Iommufd(Arc<VfioIommufd>),
    /// Not at all: the card uses physical addresses.
    None(Pagemap),
}

/// A [`Translation`] and its limits.
pub(super) struct Dma {
    translation: Translation,
    limits: Option<Limits>,
}

impl Dma {
    pub fn new(translation: Translation) -> io::Result<Self> {
        let limits = match &translation {
            Translation::Type1(container) => Some(ioctl::type1_limits(&**container)?),
            Translation::Iommufd(fd) => Some(ioctl::ioas_limits(&**fd.iommufd(), fd.ioas().id())?),
            Translation::None(_) => None,
        };
        Ok(Self { translation, limits })
    }

    pub fn limits(&self) -> Option<&Limits> {
        self.limits.as_ref()
    }

    pub fn addressing(&self) -> Addressing {
        let Some(limits) = &self.limits else { return Addressing::Physical };
        let ranges = limits.ranges.iter().map(|&(first, last)| first..=last).collect();
        Addressing::Chosen { ranges, page_bytes: smallest_page(limits.page_sizes) }
    }

    pub fn isolation(&self) -> Isolation {
        match &self.translation {
            Translation::None(_) => Isolation::None,
            Translation::Type1(_) | Translation::Iommufd(_) => Isolation::Iommu,
        }
    }

    pub fn caller_memory(&self) -> CallerMemory {
        match &self.translation {
            Translation::None(_) => CallerMemory::Staged("without an IOMMU nothing pins its pages"),
            _ if can_populate() => CallerMemory::Pinned,
            _ => CallerMemory::Staged(
                "this kernel is older than 5.14 and may pin a page before it is first written",
            ),
        }
    }

    /// # Safety
    ///
    /// As [`Mapper::map`](crate::memory::Mapper::map).
    pub unsafe fn map(
        &self,
        memory: MemoryRef<'_>,
        iova: u64,
        access: Access,
    ) -> Result<Vec<Extent>, MapError> {
        if access == Access::CardReads && memory.file.is_none() {
            populate(&memory);
        }
        let whole = vec![Extent { offset: 0, address: iova, len: memory.len }];
        let range = (memory.ptr as u64, memory.len);
        let mapped = match &self.translation {
            Translation::None(pagemap) => return pagemap.extents(&memory),
            Translation::Type1(container) => {
                let flags = match access {
                    Access::CardReads => VFIO_DMA_MAP_FLAG_READ,
                    Access::CardWrites => VFIO_DMA_MAP_FLAG_WRITE,
                };
                // SAFETY: passed on to our caller.
                unsafe { ioctl::type1_map(&**container, range, iova, flags) }
            }
            Translation::Iommufd(fd) => {
                let flags = match access {
                    Access::CardReads => READABLE,
                    Access::CardWrites => WRITEABLE,
                };
                iommufd_map(fd, range, iova, flags | FIXED)
            }
        };
        mapped.map(|()| whole).map_err(|source| map_error(iova, memory.len, source))
    }

    pub fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError> {
        let unmapped = match &self.translation {
            // Without an IOMMU nothing was mapped: the card can reach all memory at all times.
            Translation::None(_) => return Ok(()),
            Translation::Type1(container) => ioctl::type1_unmap(&**container, iova, len),
            Translation::Iommufd(fd) => iommufd_unmap(fd, iova, len),
        };
        let refused = |cause| MapError::Refused { iova, len, cause };
        match unmapped.map_err(refused)? {
            bytes if bytes == len => Ok(()),
            bytes => Err(refused(io::Error::other(format!("{bytes:#x} bytes were mapped there")))),
        }
    }
}

/// Maps memory with these flags. The method of `vfio-ioctls` always maps for reading and writing.
fn iommufd_map(fd: &VfioIommufd, (user_va, length): (u64, u64), iova: u64, flags: u32) -> io::Result<()> {
    let size = size_of::<iommu_ioas_map>() as u32;
    let map = iommu_ioas_map { size, flags, ioas_id: fd.ioas().id(), __reserved: 0, user_va, length, iova };
    fd.iommufd().map_iommu_ioas(&map).map_err(system_error)
}

fn iommufd_unmap(fd: &VfioIommufd, iova: u64, length: u64) -> io::Result<u64> {
    let size = size_of::<iommu_ioas_unmap>() as u32;
    let mut unmap = iommu_ioas_unmap { size, ioas_id: fd.ioas().id(), iova, length };
    fd.iommufd().unmap_iommu_ioas(&mut unmap).map_err(system_error)?;
    Ok(unmap.length)
}

fn system_error(error: IommufdError) -> io::Error {
    match error {
        IommufdError::IommuIoasMap(e) | IommufdError::IommuIoasUnmap(e) => e.into(),
        other => io::Error::other(other),
    }
}

fn map_error(iova: u64, len: u64, source: io::Error) -> MapError {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => MapError::Locked { len, limit: memlock_limit(), source },
        Some(libc::ENOSPC) => MapError::TooMany { source },
        _ => MapError::Refused { iova, len, cause: source },
    }
}

/// Returns how many bytes this process may lock; all ones if there is no limit.
fn memlock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the structure and nothing else.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    limit.rlim_cur
}

fn smallest_page(page_sizes: u64) -> u64 {
    match page_sizes & page_sizes.wrapping_neg() {
        0 => 4096,
        // The kernel pins whole pages of 4 KiB or more, even if the IOMMU supports smaller ones.
        smallest => smallest.max(4096),
    }
}

/// Gives the process its own copy of each page before the page is pinned for reading.
///
/// A page that was never written is the kernel's shared zero page, and a page inherited through `fork` is shared with the parent.
/// Before Linux 6.2 ("mm/gup: reliable R/O long-term pinning in COW mappings") a read-only pin took the shared page. The first
/// write then gave the process a different page, which the card never saw. Read-only mappings are left unchanged.
fn populate(memory: &MemoryRef<'_>) {
    // SAFETY: the range is the caller's, and this advice does not change its contents.
    unsafe { libc::madvise(memory.ptr.cast(), memory.len as usize, libc::MADV_POPULATE_WRITE) };
}

/// Returns whether the kernel supports `MADV_POPULATE_WRITE` (Linux 5.14).
fn can_populate() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        let Ok(mut page) = memmap2::MmapMut::map_anon(4096) else { return false };
        // SAFETY: the range is our own mapping, and this advice does not change its contents.
        unsafe { libc::madvise(page.as_mut_ptr().cast(), page.len(), libc::MADV_POPULATE_WRITE) == 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_mappings_are_explained() {
        let error = |number| map_error(0x1000, 2 << 20, io::Error::from_raw_os_error(number)).to_string();
        let locked = error(libc::ENOMEM);
        assert!(locked.contains("RLIMIT_MEMLOCK") && locked.contains("LimitMEMLOCK"), "{locked}");
        let many = error(libc::ENOSPC);
        assert!(many.contains("65,535") && many.contains("dma_entry_limit"), "{many}");
        assert!(error(libc::EEXIST).contains("IOVA 0x1000"));
    }

    #[test]
    fn the_granularity_is_at_least_a_kernel_page() {
        assert_eq!(smallest_page(0x4020_1000), 4096);
        assert_eq!(smallest_page(0xffff_ffff_ffff_f001), 4096);
        assert_eq!(smallest_page(1 << 16), 1 << 16);
        assert_eq!(smallest_page(0), 4096);
    }

    #[test]
    fn this_kernel_supports_populate() {
        assert!(can_populate(), "Linux 5.14 or later");
    }
}
