//! Memory of our own: a memory file, in hugepages where there are some, mapped and touched.

use super::MemoryError;
use memmap2::{MmapOptions, MmapRaw};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

/// Sizes of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageSize {
    /// The processor's smallest, 4 KiB on x86-64.
    Base,
    /// 2 MiB.
    Huge2M,
    /// 1 GiB.
    Huge1G,
}

impl PageSize {
    /// Bytes of a page.
    pub fn bytes(self) -> u64 {
        match self {
            // SAFETY: sysconf has no preconditions.
            Self::Base => unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 },
            Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }

    fn memfd_flags(self) -> u32 {
        match self {
            Self::Base => 0,
            Self::Huge2M => libc::MFD_HUGETLB | libc::MFD_HUGE_2MB,
            Self::Huge1G => libc::MFD_HUGETLB | libc::MFD_HUGE_1GB,
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => write!(f, "{} KiB", self.bytes() >> 10),
            Self::Huge2M => f.write_str("2 MiB"),
            Self::Huge1G => f.write_str("1 GiB"),
        }
    }
}

/// Which pages to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HugePages {
    /// The largest that the length fills, then smaller ones where none are free. The fall-back is reported.
    #[default]
    Prefer,
    /// Exactly this size, or an error.
    Require(PageSize),
}

/// Shared memory with a file descriptor, pinned by being touched, never inherited by a child process.
#[derive(Debug)]
pub struct HostMemory {
    file: File,
    map: MmapRaw,
    page: PageSize,
}

impl HostMemory {
    /// Allocates `len` bytes, rounded up to whole pages, zeroed, on NUMA node `node` where one is named.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Empty`], and [`MemoryError::Allocate`] when no allowed size of pages can be had.
    pub fn allocate(len: u64, pages: HugePages, node: Option<u32>) -> Result<Self, MemoryError> {
        if len == 0 {
            return Err(MemoryError::Empty);
        }
        let sizes: &[PageSize] = match &pages {
            HugePages::Require(size) => std::slice::from_ref(size),
            HugePages::Prefer if len >= PageSize::Huge1G.bytes() => {
                &[PageSize::Huge1G, PageSize::Huge2M, PageSize::Base]
            }
            HugePages::Prefer => &[PageSize::Huge2M, PageSize::Base],
        };
        let mut failure = None;
        for &page in sizes {
            match Self::with_pages(len, page, node) {
                Ok(memory) => return Ok(memory),
                Err(cause) => failure = failure.or(Some(MemoryError::Allocate { len, page, cause })),
            }
        }
        Err(failure.expect("there is always a size to try"))
    }

    fn with_pages(len: u64, page: PageSize, node: Option<u32>) -> io::Result<Self> {
        let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
        let len = len.checked_next_multiple_of(page.bytes()).ok_or_else(too_long)?;
        // SAFETY: the name is a C string; the descriptor that comes back is ours alone.
        let file = unsafe {
            let fd = libc::memfd_create(c"xdma".as_ptr(), libc::MFD_CLOEXEC | page.memfd_flags());
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
        file.set_len(len)?;
        let map = MmapOptions::new().len(usize::try_from(len).map_err(|_| too_long())?).map_raw(&file)?;
        let memory = Self { file, map, page };
        if let Some(node) = node {
            memory.prefer_node(node)?;
        }
        memory.populate()?;
        Ok(memory)
    }

    /// Allocates every page now: a card never waits for one, and a lack of memory is an error here, not a signal later.
    fn populate(&self) -> io::Result<()> {
        let (at, len) = (self.map.as_mut_ptr().cast(), self.map.len());
        // A child that wrote to the pages after a fork would leave the card with the other copy.
        self.advise(libc::MADV_DONTFORK)?;
        // SAFETY: the range is our own mapping, and nothing else refers to it yet.
        if unsafe { libc::madvise(at, len, libc::MADV_POPULATE_WRITE) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // Before Linux 5.14: reserve the pages in the file, and let the first touch map them.
            e if e.raw_os_error() == Some(libc::EINVAL) => {
                // SAFETY: the file is ours; fallocate touches no memory of the process.
                let rc =
                    unsafe { libc::fallocate(std::os::fd::AsRawFd::as_raw_fd(&self.file), 0, 0, len as i64) };
                if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            }
            e => Err(e),
        }
    }

    fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the range is our own mapping; the advice given does not change its content.
        let rc = unsafe { libc::madvise(self.map.as_mut_ptr().cast(), self.map.len(), advice) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn prefer_node(&self, node: u32) -> io::Result<()> {
        let mut mask = [0u64; 16];
        let word = mask.get_mut(node as usize / 64).ok_or(io::ErrorKind::InvalidInput)?;
        *word |= 1 << (node % 64);
        // SAFETY: the range is our own untouched mapping, the mask has as many bits as said.
        let rc = unsafe {
            let (at, len) = (self.map.as_mut_ptr(), self.map.len());
            libc::syscall(libc::SYS_mbind, at, len, libc::MPOL_PREFERRED, mask.as_ptr(), mask.len() * 64, 0)
        };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Where it is mapped.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes, whole pages.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The memory file, whose content starts at offset 0.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Which pages it got.
    pub fn page(&self) -> PageSize {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_back_to_small_pages_and_rounds_up() {
        let memory = HostMemory::allocate(5000, HugePages::Require(PageSize::Base), None).unwrap();
        assert_eq!((memory.len(), memory.page()), (8192, PageSize::Base));
        assert!(HostMemory::allocate(1, HugePages::Prefer, None).unwrap().len() >= 4096);
    }

    #[test]
    fn missing_pages_are_an_error_with_a_remedy() {
        let Err(error) = HostMemory::allocate(1 << 50, HugePages::Require(PageSize::Huge2M), None) else {
            panic!("a petabyte of hugepages")
        };
        let text = error.to_string();
        assert!(text.contains("2 MiB") && text.contains("nr_hugepages"), "{text}");
        assert!(matches!(HostMemory::allocate(0, HugePages::Prefer, None), Err(MemoryError::Empty)));
        assert!(HostMemory::allocate(u64::MAX, HugePages::Prefer, None).is_err());
    }

    #[test]
    fn the_first_node_always_exists() {
        HostMemory::allocate(4096, HugePages::Require(PageSize::Base), Some(0)).unwrap();
        assert!(HostMemory::allocate(4096, HugePages::Require(PageSize::Base), Some(99_999)).is_err());
    }
}
