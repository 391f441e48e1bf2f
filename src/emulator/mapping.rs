//! Mapped memory, seen only through volatile views. All `unsafe` of the memory side is here.

use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use vm_memory::VolatileSlice;

/// A mapping of a file, or of anonymous memory, that lives as long as this value.
#[derive(Debug)]
pub(super) struct Mapping(MmapRaw);

impl Mapping {
    /// `len` bytes of `file` from `offset`, shared with every other process that maps them.
    pub fn of_file(file: &File, offset: u64, len: u64, writable: bool) -> io::Result<Self> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        if len == 0 || end > file.metadata()?.len() {
            // Beyond the end of the file an access would raise SIGBUS.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut options = MmapOptions::new();
        options.offset(offset).len(usize::try_from(len).map_err(io::Error::other)?);
        let raw = if writable { options.map_raw(file) } else { options.map_raw_read_only(file) };
        raw.map(Self)
    }

    /// `len` bytes that read as zeros and take no memory until they are written.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let raw = MmapRaw::from(MmapOptions::new().len(len).no_reserve_swap().map_anon()?);
        // Fewer page faults on first touch; without huge pages it works the same.
        let _ = raw.advise(Advice::HugePage);
        Ok(Self(raw))
    }

    /// The `len` bytes from `offset`; panics when they are not inside. What was mapped read-only must not be written.
    pub fn slice(&self, offset: usize, len: usize) -> VolatileSlice<'_> {
        let end = offset.checked_add(len).expect("a range that ends");
        assert!(end <= self.0.len(), "{offset:#x}..{end:#x} is outside {:#x} mapped bytes", self.0.len());
        // SAFETY: `offset <= self.0.len()` was just checked, so the address stays inside one mapping.
        let address = unsafe { self.0.as_mut_ptr().add(offset) };
        // SAFETY: the `len` bytes from `address` are inside the mapping, which lives as long as the slice, since the slice
        // borrows `self` and only drop unmaps. No Rust reference to these bytes exists or is ever made: the pointer
        // is private and leaves only as a `VolatileSlice`, whose accesses are volatile or raw copies.
        unsafe { VolatileSlice::new(address, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    #[should_panic(expected = "outside")]
    fn a_view_stays_inside() {
        Mapping::anonymous(0x1000).unwrap().slice(0xfff, 2);
    }
}
