//! Physical addresses of this process's memory, for cards without an IOMMU.

use crate::memory::{Extent, MapError, MemoryRef, PageSize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Fields of an entry of `/proc/PID/pagemap`: the page frame number in bits 54:0, and in bit 63 whether the page is present
/// (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// This process's pagemap, which shows physical addresses only to processes with CAP_SYS_ADMIN.
pub(super) struct Pagemap {
    file: File,
    /// Size of a base page in bytes.
    page_bytes: u64,
}

impl Pagemap {
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/self/pagemap")?, page_bytes: PageSize::Base.bytes() })
    }

    /// Returns the physically contiguous extents of `memory`. Only hugepages are accepted, since the kernel does not move them.
    pub fn extents(&self, memory: &MemoryRef<'_>) -> Result<Vec<Extent>, MapError> {
        let page = memory.page.bytes();
        if memory.page == PageSize::Base {
            return Err(MapError::NeedsHugePages);
        }
        let mut extents: Vec<Extent> = vec![];
        for offset in (0..memory.len).step_by(page as usize) {
            let address = self.physical(memory.ptr as u64 + offset)?;
            let len = page.min(memory.len - offset);
            match extents.last_mut() {
                Some(last) if last.address + last.len == address => last.len += len,
                _ => extents.push(Extent { offset, address, len }),
            }
        }
        Ok(extents)
    }

    fn physical(&self, at: u64) -> Result<u64, MapError> {
        let mut entry = [0; 8];
        let read = self.file.read_exact_at(&mut entry, at / self.page_bytes * 8);
        read.map_err(|source| MapError::NoPhysical { reason: format!("/proc/self/pagemap: {source}") })?;
        self.decode(u64::from_ne_bytes(entry), at).map_err(|reason| MapError::NoPhysical { reason })
    }

    fn decode(&self, entry: u64, at: u64) -> Result<u64, String> {
        match entry & FRAME {
            _ if entry & PRESENT == 0 => Err(format!("the page at {at:#x} is not in memory")),
            0 => {
                Err("the kernel hides physical addresses from this process, which lacks CAP_SYS_ADMIN".into())
            }
            frame => Ok(frame * self.page_bytes + at % self.page_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_decoded() {
        let pagemap = Pagemap { file: File::open("/dev/zero").unwrap(), page_bytes: 4096 };
        assert_eq!(pagemap.decode(0x8100_0000_0014_2400, 0x7000_0010), Ok(0x1_4240_0010));
        assert!(pagemap.decode(PRESENT, 0).unwrap_err().contains("CAP_SYS_ADMIN"));
        assert!(pagemap.decode(0x14_2400, 0).unwrap_err().contains("not in memory"));
        let page = MemoryRef { ptr: 0x20_0000 as *mut u8, len: 4096, page: PageSize::Huge2M, file: None };
        assert!(pagemap.extents(&page).unwrap_err().to_string().contains("not in memory"));
        let page = MemoryRef { page: PageSize::Base, ..page };
        assert!(pagemap.extents(&page).unwrap_err().to_string().contains("hugepages"));
    }
}
