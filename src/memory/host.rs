//! Memory that the driver allocates: a mapped and populated memory file, in hugepages if some are free.

#![deny(clippy::arithmetic_side_effects)]

use super::MemoryError;
use super::available::{self, Available};
use super::sealed::{self, Writers};
use memmap2::{MmapOptions, MmapRaw};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Number of bytes that are populated between two checks of the available memory.
const STEP: u64 = 64 << 20;

/// A page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageSize {
    /// The processor's smallest page size, 4 KiB on x86-64.
    Base,
    /// 2 MiB.
    Huge2M,
    /// 1 GiB.
    Huge1G,
}

impl PageSize {
    /// Returns the page size in bytes.
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

/// The page size of allocations.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use xdma::card::CardOptions;
/// use xdma::memory::{HugePages, PageSize};
/// use xdma::regs::Direction;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let options = CardOptions { pages: HugePages::Require(PageSize::Base), ..CardOptions::default() };
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), options)?;
/// assert_eq!(card.allocate(4096, Direction::H2C)?.page(), PageSize::Base);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HugePages {
    /// 1 GiB pages for allocations of at least that size, 2 MiB pages for others, and smaller pages if none of those are free.
    /// The fallback is reported.
    #[default]
    Prefer,
    /// Exactly this page size. If no such pages are free, the allocation fails.
    Require(PageSize),
}

/// A populated mapping of a sealed memory file. Child processes do not inherit the mapping.
#[derive(Debug)]
pub struct HostMemory {
    file: File,
    map: MmapRaw,
    page: PageSize,
}

impl HostMemory {
    /// Allocates `len` zeroed bytes, rounded up to whole pages, preferably on NUMA node `node`.
    ///
    /// The file is sealed: its length cannot change, and `writers` determines whether other processes that receive the file can
    /// write to it. Linux before 5.1 only fixes the length.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Empty`]; [`MemoryError::Allocate`] if no permitted page size can be allocated; [`MemoryError::Exhausted`]
    /// if the machine or a control group has too little memory available. The check runs again after every 64 MiB. If another
    /// process takes the memory between a check and its use, the kernel may kill a process.
    pub(super) fn allocate(
        len: u64,
        pages: HugePages,
        node: Option<u32>,
        writers: Writers,
    ) -> Result<Self, MemoryError> {
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
        let mut failure = MemoryError::Empty;
        for &page in sizes {
            match Self::with_pages(len, page, node, writers) {
                Ok(memory) => return Ok(memory),
                // The error of the smallest permitted page size is returned: a lack of hugepages is not the cause then.
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn with_pages(
        len: u64,
        page: PageSize,
        node: Option<u32>,
        writers: Writers,
    ) -> Result<Self, MemoryError> {
        let mut check = |more| match (page, Available::read(&available::system_root())) {
            (PageSize::Base, Some(available)) => available.check(len, more),
            // The kernel reserves hugepages, and refuses a mapping for which too few are free.
            _ => Ok(()),
        };
        check(len)?;
        let memory =
            Self::reserve(len, page, node).map_err(|cause| MemoryError::Allocate { len, page, cause })?;
        memory.populate(&mut check)?;
        sealed::seal(&memory.file, writers).map_err(|cause| MemoryError::Allocate { len, page, cause })?;
        Ok(memory)
    }

    /// Creates a file and its mapping without populating any page.
    fn reserve(len: u64, page: PageSize, node: Option<u32>) -> io::Result<Self> {
        let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
        let len = len.checked_next_multiple_of(page.bytes()).ok_or_else(too_long)?;
        let file = sealed::create(c"xdma", page.memfd_flags())?;
        file.set_len(len)?;
        let map = MmapOptions::new().len(usize::try_from(len).map_err(|_| too_long())?).map_raw(&file)?;
        let memory = Self { file, map, page };
        if let Some(node) = node {
            memory.prefer_node(node)?;
        }
        // A child process with access to these pages would be a second writer.
        memory.advise(libc::MADV_DONTFORK)?;
        Ok(memory)
    }

    /// Populates every page, in steps. The card then never causes a page fault, and a lack of memory is an error here rather than
    /// a signal later. `check` is called before each step with the number of bytes of that step.
    fn populate(&self, check: &mut dyn FnMut(u64) -> Result<(), MemoryError>) -> Result<(), MemoryError> {
        let (len, page) = (self.len(), self.page);
        let step = STEP.max(page.bytes());
        for start in (0..len).step_by(step as usize) {
            let bytes = step.min(len.saturating_sub(start));
            check(bytes)?;
            self.populate_range(start, bytes).map_err(|cause| MemoryError::Allocate { len, page, cause })?;
        }
        Ok(())
    }

    fn populate_range(&self, start: u64, len: u64) -> io::Result<()> {
        // SAFETY: the range is part of our own mapping, and nothing else refers to it yet.
        let populated = unsafe {
            let at = self.map.as_mut_ptr().add(start as usize);
            libc::madvise(at.cast(), len as usize, libc::MADV_POPULATE_WRITE)
        };
        if populated == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // Before Linux 5.14: allocate the pages in the file; the first access maps them.
            e if e.raw_os_error() == Some(libc::EINVAL) => {
                // SAFETY: the file is open, and fallocate does not access memory of this process.
                let rc = unsafe { libc::fallocate(self.file.as_raw_fd(), 0, start as i64, len as i64) };
                if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            }
            e => Err(e),
        }
    }

    fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the range is our own mapping, and the advice does not change its contents.
        let rc = unsafe { libc::madvise(self.map.as_mut_ptr().cast(), self.map.len(), advice) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn prefer_node(&self, node: u32) -> io::Result<()> {
        let mut mask = [0u64; 16];
        let (at, bit) = (node as usize >> 6, node & 63);
        *mask.get_mut(at).ok_or(io::ErrorKind::InvalidInput)? |= 1u64 << bit;
        // SAFETY: the range is our own unpopulated mapping, and the mask has 64 * 16 bits.
        let rc = unsafe {
            let (at, len) = (self.map.as_mut_ptr(), self.map.len());
            libc::syscall(libc::SYS_mbind, at, len, libc::MPOL_PREFERRED, mask.as_ptr(), 64 * 16, 0)
        };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Returns the address of the mapping.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Returns the length in bytes, a multiple of the page size.
    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Returns the memory file. The mapping starts at its offset 0.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the page size.
    pub fn page(&self) -> PageSize {
        self.page
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
mod tests {
    use super::sealed::Writers::{self, All, Mapped};
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, Instant};

    const BASE: HugePages = HugePages::Require(PageSize::Base);
    const HUGE: HugePages = HugePages::Require(PageSize::Huge2M);

    #[test]
    fn falls_back_to_small_pages_and_rounds_up() {
        let memory = HostMemory::allocate(5000, BASE, None, Mapped).unwrap();
        assert_eq!((memory.len(), memory.page()), (8192, PageSize::Base));
        assert!(HostMemory::allocate(1, HugePages::Prefer, None, Mapped).unwrap().len() >= 4096);
    }

    #[test]
    fn a_lack_of_hugepages_is_an_error_with_a_remedy() {
        let Err(error) = HostMemory::allocate(1 << 50, HUGE, None, Mapped) else {
            panic!("a petabyte of hugepages")
        };
        let text = error.to_string();
        assert!(text.contains("2 MiB") && text.contains("nr_hugepages"), "{text}");
        let none = HostMemory::allocate(0, HugePages::Prefer, None, Mapped);
        assert!(matches!(none, Err(MemoryError::Empty)));
        assert!(HostMemory::allocate(u64::MAX, HugePages::Prefer, None, Mapped).is_err());
    }

    #[test]
    fn memory_is_allocated_on_existing_nodes_only() {
        HostMemory::allocate(4096, BASE, Some(0), Mapped).unwrap();
        assert!(HostMemory::allocate(4096, BASE, Some(99_999), Mapped).is_err());
    }

    fn kilobytes(file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn more_memory_than_the_machine_has_is_refused_before_it_is_populated() {
        let begin = Instant::now();
        let before = kilobytes("/proc/self/status", "VmHWM:");
        let len = (kilobytes("/proc/meminfo", "MemAvailable:") << 10) + (1 << 30);
        for pages in [BASE, HugePages::Prefer] {
            let Err(error) = HostMemory::allocate(len, pages, None, All) else {
                panic!("more than there is")
            };
            assert!(matches!(error, MemoryError::Exhausted { .. }), "{error}");
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let populated = kilobytes("/proc/self/status", "VmHWM:") - before;
        assert!(populated < 256 << 10, "{populated} KiB were populated");
    }

    #[test]
    fn populating_stops_when_memory_runs_out() {
        let memory = HostMemory::reserve(STEP * 3, PageSize::Base, None).unwrap();
        let mut checks = 0;
        let error = memory.populate(&mut |_| {
            checks += 1;
            let (len, available, limit) = (STEP * 3, 0, "a test".into());
            if checks == 2 { Err(MemoryError::Exhausted { len, available, limit }) } else { Ok(()) }
        });
        assert!(matches!(error, Err(MemoryError::Exhausted { .. })));
        assert_eq!(memory.file.metadata().unwrap().blocks() * 512, STEP);
    }

    /// Returns whether a process that received the file can resize it, write to it, map it writable, punch holes into it, and add
    /// seals.
    fn permitted(memory: &HostMemory) -> [bool; 5] {
        let path = format!("/proc/self/fd/{}", memory.file.as_raw_fd());
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the file is open, and fallocate takes only integers.
        let punch = || unsafe { libc::fallocate(file.as_raw_fd(), punch, 0, memory.len() as i64) } == 0;
        // SAFETY: fcntl with this command takes an integer.
        let add_seals = || unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, 0) } == 0;
        [
            file.set_len(0).is_ok() || file.set_len(memory.len() * 2).is_ok(),
            // Files on hugetlbfs do not support `write`.
            std::io::Write::write(&mut &file, &[1]).is_ok(),
            MmapOptions::new().map_raw(&file).is_ok(),
            punch(),
            add_seals(),
        ]
    }

    fn allocated(pages: HugePages, writers: Writers) -> Option<HostMemory> {
        match HostMemory::allocate(2 << 20, pages, None, writers) {
            Ok(memory) => Some(memory),
            Err(error) if pages == HUGE => {
                println!("skipped 2 MiB pages: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn only_this_process_can_write_memory_that_the_card_reads() {
        for pages in [BASE, HUGE] {
            let Some(memory) = allocated(pages, Mapped) else { continue };
            // SAFETY: the mapping is ours, and no reference to it exists.
            unsafe { memory.as_ptr().write_volatile(7) };
            assert_eq!(permitted(&memory), [false; 5], "{pages:?}");
            let other = MmapOptions::new().map_raw_read_only(&memory.file).unwrap();
            // SAFETY: mapped, and only read.
            assert_eq!(unsafe { other.as_ptr().read_volatile() }, 7, "it can be read");
            // SAFETY: the range is the mapping's own.
            let writable = unsafe {
                let at = other.as_mut_ptr().cast();
                libc::mprotect(at, other.len(), libc::PROT_READ | libc::PROT_WRITE) == 0
            };
            assert!(!writable);
        }
    }

    #[test]
    fn memory_that_the_card_writes_cannot_be_resized() {
        for pages in [BASE, HUGE] {
            let Some(memory) = allocated(pages, All) else { continue };
            let written = pages == BASE;
            assert_eq!(permitted(&memory), [false, written, true, true, false], "{pages:?}");
        }
    }
}
