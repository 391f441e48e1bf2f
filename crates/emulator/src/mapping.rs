//! Mapped memory, seen only through volatile views. All `unsafe` of the memory side is here.

use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use vm_memory::VolatileSlice;

/// A mapping of a file, or of anonymous memory, that lives as long as this value.
#[derive(Debug)]
pub(super) struct Mapping {
    raw: MmapRaw,
    /// Where what was asked for begins in what is mapped.
    start: usize,
    len: usize,
}

impl Mapping {
    /// `len` bytes of `file` from `offset`, shared with every other process that maps them.
    pub fn of_file(file: &File, offset: u64, len: u64, writable: bool) -> io::Result<Self> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let metadata = file.metadata()?;
        if len == 0 || end > metadata.len() {
            // Beyond the end of the file an access would raise SIGBUS.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Of a file of huge pages only whole ones can be mapped; its block size is theirs.
        let block = metadata.blksize().max(1);
        let (from, to) = (offset - offset % block, end.next_multiple_of(block));
        let mut options = MmapOptions::new();
        options.offset(from).len(usize::try_from(to - from).map_err(io::Error::other)?);
        let raw = if writable { options.map_raw(file) } else { options.map_raw_read_only(file) };
        Ok(Self { raw: raw?, start: (offset - from) as usize, len: len as usize })
    }

    /// `len` bytes that read as zeros and take no memory until they are written.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let raw = MmapRaw::from(MmapOptions::new().len(len).no_reserve_swap().map_anon()?);
        // Fewer page faults on first touch; without huge pages it works the same.
        let _ = raw.advise(Advice::HugePage);
        Ok(Self { raw, start: 0, len })
    }

    /// The `len` bytes from `offset`; panics when they are not inside. What was mapped read-only must not be written.
    pub fn slice(&self, offset: usize, len: usize) -> VolatileSlice<'_> {
        let end = offset.checked_add(len).expect("a range that ends");
        assert!(end <= self.len, "{offset:#x}..{end:#x} is outside {:#x} mapped bytes", self.len);
        // SAFETY: `offset <= self.len` was just checked, and `self.start + self.len` bytes are mapped, so the address stays inside
        // one mapping.
        let address = unsafe { self.raw.as_mut_ptr().add(self.start + offset) };
        // SAFETY: the `len` bytes from `address` are inside the mapping, which lives as long as the slice, since the slice
        // borrows `self` and only drop unmaps. No Rust reference to these bytes exists or is ever made: the pointer
        // is private and leaves only as a `VolatileSlice`, whose accesses are volatile or raw copies.
        unsafe { VolatileSlice::new(address, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;
    use vm_memory::Bytes;

    #[test]
    fn a_file_is_shared_and_its_end_respected() {
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
        // SAFETY: the name is a string that ends; nothing else is passed by address.
        let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), libc::MFD_HUGETLB | libc::MFD_HUGE_2MB) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the descriptor was just made and is nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(2 << 20).unwrap();
        match Mapping::of_file(&file, 0x3000, 0x1000, true) {
            Ok(part) => {
                part.slice(8, 8).write_obj(7u64, 0).unwrap();
                let whole = Mapping::of_file(&file, 0, 2 << 20, false).unwrap();
                assert_eq!(whole.slice(0x3008, 8).read_obj::<u64>(0).unwrap(), 7);
            }
            // No huge page is free: then it is not the offset that is wrong.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOMEM)),
        }
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_view_stays_inside() {
        Mapping::anonymous(0x1000).unwrap().slice(0xfff, 2);
    }
}
