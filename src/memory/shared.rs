//! Words that other processes may read, in a memory file. Other processes find the file only by its name below `/proc/PID/fd`, so
//! it disappears with its process, however the process ends.

use super::sealed::{self, FIXED, Writers};
use memmap2::{Mmap, MmapMut, MmapOptions, MmapRaw};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Maximum length of a memory file's name.
const NAME_BYTES: usize = 249;

/// Words that one process writes and others may read concurrently.
#[derive(Debug)]
pub struct SharedWords {
    map: MmapRaw,
    /// The file that other processes open; `None` if the words are private.
    #[cfg_attr(not(test), expect(dead_code, reason = "held open, so that other processes find it"))]
    file: Option<File>,
}

impl SharedWords {
    /// Creates `count` zeroed words in a memory file called `name`, which can be written only through this mapping. Child
    /// processes do not inherit the mapping.
    ///
    /// # Errors
    ///
    /// The kernel's error. [`private`](Self::private) is the fallback.
    pub fn create(name: &str, count: usize) -> io::Result<Self> {
        let mut end = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = CString::new(&name[..end])?;
        let file = sealed::create(&name, 0)?;
        file.set_len(count as u64 * 8)?;
        let map = MmapOptions::new().len(count * 8).map_raw(&file)?;
        // No other process may write, not even one of the same user.
        sealed::seal(&file, Writers::Mapped)?;
        // A child process with access to the mapping would be a second writer.
        // SAFETY: the range is our own mapping.
        if unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { map, file: Some(file) })
    }

    /// Creates `count` zeroed words that are private to this process.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    pub fn private(count: usize) -> io::Result<Self> {
        Ok(Self { map: MmapMut::map_anon(count * 8)?.into(), file: None })
    }

    /// Returns the number of words.
    fn count(&self) -> usize {
        self.map.len() / 8
    }
}

/// `N` consecutive words of [`SharedWords`].
#[derive(Clone, Debug)]
pub struct SharedBlock<const N: usize> {
    at: NonNull<[AtomicU64; N]>,
    _words: Arc<SharedWords>,
}

// SAFETY: it is a reference to atomic words, which `_words` keeps mapped.
unsafe impl<const N: usize> Send for SharedBlock<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for SharedBlock<N> {}

impl<const N: usize> SharedBlock<N> {
    /// Returns `N` words starting at index `first`.
    ///
    /// # Panics
    ///
    /// If there are not that many.
    pub fn new(words: &Arc<SharedWords>, first: usize) -> Self {
        assert!(first <= words.count() && N <= words.count() - first, "the block is out of range");
        // SAFETY: inside the mapping, as just checked. The mapping is page-aligned and not null.
        let at = unsafe { NonNull::new_unchecked(words.map.as_mut_ptr().cast::<AtomicU64>().add(first)) };
        Self { at: at.cast(), _words: words.clone() }
    }
}

impl<const N: usize> Deref for SharedBlock<N> {
    type Target = [AtomicU64; N];

    #[inline(always)]
    fn deref(&self) -> &[AtomicU64; N] {
        // SAFETY: `_words` keeps the mapping, and the file has a fixed length. Other processes may read the words at any time,
        // but all accesses to them are atomic.
        unsafe { self.at.as_ref() }
    }
}

/// A read-only mapping of the words that another process shares.
#[derive(Debug)]
pub struct ForeignWords {
    map: Mmap,
}

impl ForeignWords {
    /// Maps `count` words of a file that another process created with [`SharedWords::create`].
    ///
    /// # Errors
    ///
    /// [`InvalidData`](io::ErrorKind::InvalidData) if the file's length is different or not sealed; otherwise the kernel's error.
    pub fn map(file: &File, count: usize) -> io::Result<Self> {
        // SAFETY: fcntl with this command has no argument and accesses no memory.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if seals < 0 || seals & FIXED != FIXED {
            return wrong("its length is not sealed".into());
        }
        let (len, expected) = (file.metadata()?.len(), count as u64 * 8);
        if len != expected {
            return wrong(format!("it has {len} bytes instead of {expected}"));
        }
        // SAFETY: the file has a fixed length, as just checked, and all accesses to its words are atomic.
        let map = unsafe { MmapOptions::new().len(count * 8).map(file)? };
        Ok(Self { map })
    }

    /// Reads a range of words. The words are read one after the other, not as a consistent snapshot.
    ///
    /// # Panics
    ///
    /// If the range is outside the file.
    pub fn read(&self, words: Range<usize>) -> Vec<u64> {
        assert!(words.end <= self.map.len() / 8, "the range is outside the file");
        let start = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: inside the mapping, as just checked, and aligned. A relaxed load of 64 bits is a plain load, which is valid for
        // read-only memory.
        words.map(|at| unsafe { (*start.add(at)).load(std::sync::atomic::Ordering::Relaxed) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn reopened(words: &SharedWords) -> File {
        File::open(format!("/proc/self/fd/{}", words.file.as_ref().unwrap().as_raw_fd())).unwrap()
    }

    #[test]
    fn another_mapping_sees_what_is_written() {
        let words = Arc::new(SharedWords::create("xdma-test", 16).unwrap());
        let block = SharedBlock::<4>::new(&words, 8);
        block[3].store(7, Ordering::Relaxed);
        let seen = ForeignWords::map(&reopened(&words), 16).unwrap();
        assert_eq!(seen.read(10..12), [0, 7]);
        drop((words, block.clone()));
        block[3].store(8, Ordering::Relaxed);
        assert_eq!(seen.read(11..12), [8], "a block keeps the words mapped");
    }

    #[test]
    fn other_processes_cannot_resize_or_write_the_file() {
        let words = SharedWords::create(&"ä".repeat(200), 16).unwrap();
        let path = format!("/proc/self/fd/{}", words.file.as_ref().unwrap().as_raw_fd());
        let file = File::options().read(true).write(true).open(path).unwrap();
        assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
        assert!(MmapOptions::new().map_raw(&file).is_err(), "no second writable mapping");
        assert!(std::io::Write::write(&mut &file, &[1]).is_err());
    }

    #[test]
    fn a_file_that_could_shrink_is_not_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(128).unwrap();
        let error = ForeignWords::map(&file, 16).unwrap_err();
        assert!(error.to_string().contains("not sealed"), "{error}");
        let words = SharedWords::create("xdma-test", 16).unwrap();
        let error = ForeignWords::map(&reopened(&words), 17).unwrap_err();
        assert!(error.to_string().contains("128 bytes instead of 136"), "{error}");
    }

    #[test]
    fn private_words_behave_the_same() {
        let words = Arc::new(SharedWords::private(4).unwrap());
        SharedBlock::<4>::new(&words, 0)[0].store(1, Ordering::Relaxed);
        assert_eq!(SharedBlock::<1>::new(&words, 0)[0].load(Ordering::Relaxed), 1);
    }
}
