//! Mapped memory, accessible only through volatile views. This module contains all of the `unsafe` code for memory access.

use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use vm_memory::VolatileSlice;

/// A mapping of a file or of anonymous memory. Dropping it unmaps the memory.
#[derive(Debug)]
pub(super) struct Mapping {
    raw: MmapRaw,
    /// The offset of the requested range in the mapping, which begins at a block boundary.
    start: usize,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset`, shared with all other processes that map them.
    pub fn of_file(file: &File, offset: u64, len: u64, writable: bool) -> io::Result<Self> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let metadata = file.metadata()?;
        if len == 0 || end > metadata.len() {
            // An access beyond the end of the file would raise SIGBUS.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Huge pages can only be mapped whole; the file's block size is the size of its pages.
        let block = metadata.blksize().max(1);
        let (from, to) = (offset - offset % block, end.next_multiple_of(block));
        let mut options = MmapOptions::new();
        options.offset(from).len(usize::try_from(to - from).map_err(io::Error::other)?);
        let raw = if writable { options.map_raw(file) } else { options.map_raw_read_only(file) };
        Ok(Self { raw: raw?, start: (offset - from) as usize, len: len as usize })
    }

    /// Maps `len` zeroed bytes, which use no memory until they are written.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let raw = MmapRaw::from(MmapOptions::new().len(len).no_reserve_swap().map_anon()?);
        // Huge pages reduce the page faults on first touch, but are not required.
        let _ = raw.advise(Advice::HugePage);
        Ok(Self { raw, start: 0, len })
    }

    /// Returns a view of `len` bytes from `offset`. A view of a read-only mapping must not be written. Panics if the range is out
    /// of bounds.
    pub fn slice(&self, offset: usize, len: usize) -> VolatileSlice<'_> {
        let end = offset.checked_add(len).expect("the range does not overflow");
        assert!(end <= self.len, "{offset:#x}..{end:#x} is outside {:#x} mapped bytes", self.len);
        // SAFETY: `offset <= self.len` was just checked, and `self.start + self.len` bytes are mapped, so the address stays
        // inside one mapping.
        let address = unsafe { self.raw.as_mut_ptr().add(self.start + offset) };
        // SAFETY: the `len` bytes from `address` are inside the mapping. The mapping outlives the slice, because the slice
        // borrows `self` and only drop unmaps. No Rust reference to these bytes is ever created: the pointer is private and is
        // exposed only as a `VolatileSlice`, whose accesses are volatile or raw copies.
        unsafe { VolatileSlice::new(address, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;
    use vm_memory::Bytes;

    #[test]
    fn mappings_share_a_file_and_stop_at_its_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x2000).unwrap();
        let (one, two) = (
            Mapping::of_file(&file, 0x1000, 0x1000, true).unwrap(),
            Mapping::of_file(&file, 0, 0x2000, false).unwrap(),
        );
        one.slice(4, 8).write_obj(7u64, 0).unwrap();
        assert_eq!(two.slice(0x1004, 8).read_obj::<u64>(0).unwrap(), 7);
        assert!(Mapping::of_file(&file, 0x1000, 0x1001, true).is_err());
        assert!(Mapping::of_file(&file, u64::MAX, 2, true).is_err());
        assert!(Mapping::of_file(&file, 0, 0, true).is_err());
    }

    #[test]
    fn part_of_a_huge_page_can_be_mapped() {
        // SAFETY: the name is a NUL-terminated string, and no other pointer is passed.
        let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), libc::MFD_HUGETLB | libc::MFD_HUGE_2MB) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the descriptor was just created and has no other owner.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(2 << 20).unwrap();
        match Mapping::of_file(&file, 0x3000, 0x1000, true) {
            Ok(part) => {
                part.slice(8, 8).write_obj(7u64, 0).unwrap();
                let whole = Mapping::of_file(&file, 0, 2 << 20, false).unwrap();
                assert_eq!(whole.slice(0x3008, 8).read_obj::<u64>(0).unwrap(), 7);
            }
            // No huge page is available, so the offset is not at fault.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOMEM)),
        }
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_view_stays_inside() {
        Mapping::anonymous(0x1000).unwrap().slice(0xfff, 2);
    }
}
