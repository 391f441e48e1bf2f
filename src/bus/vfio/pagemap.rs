//! Physical addresses of this process' memory, for cards without an IOMMU.

use crate::memory::{Extent, MapError, MemoryRef, PageSize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An entry of `/proc/PID/pagemap`: number of the physical page in bits 54:0, presence in bit 63
/// (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// This process' page table, as the kernel shows it to those with CAP_SYS_ADMIN.
pub(super) struct Pagemap {
    file: File,
    base: u64,
}

impl Pagemap {
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/self/pagemap")?, base: PageSize::Base.bytes() })
    }

    /// Where memory lies, in stretches that are contiguous; hugepages only, as those stay where they are.
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
        let read = self.file.read_exact_at(&mut entry, at / self.base * 8);
        read.map_err(|source| MapError::NoPhysical { reason: format!("/proc/self/pagemap: {source}") })?;
        self.decode(u64::from_ne_bytes(entry), at).map_err(|reason| MapError::NoPhysical { reason })
    }

    fn decode(&self, entry: u64, at: u64) -> Result<u64, String> {
        match entry & FRAME {
            _ if entry & PRESENT == 0 => Err(format!("the page at {at:#x} is not in memory")),
            0 => {
                Err("the kernel hides physical addresses from this process, which lacks CAP_SYS_ADMIN".into())
            }
            frame => Ok(frame * self.base + at % self.base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_decoded() {
        let pagemap = Pagemap { file: File::open("/dev/zero").unwrap(), base: 4096 };
        assert_eq!(pagemap.decode(0x8100_0000_0014_2400, 0x7000_0010), Ok(0x1_4240_0010));
        assert!(pagemap.decode(PRESENT, 0).unwrap_err().contains("CAP_SYS_ADMIN"));
        assert!(pagemap.decode(0x14_2400, 0).unwrap_err().contains("not in memory"));
        let page = MemoryRef { ptr: 0x20_0000 as *mut u8, len: 4096, page: PageSize::Huge2M, file: None };
        assert!(pagemap.extents(&page).unwrap_err().to_string().contains("not in memory"));
        let page = MemoryRef { page: PageSize::Base, ..page };
        assert!(pagemap.extents(&page).unwrap_err().to_string().contains("hugepages"));
    }
}
