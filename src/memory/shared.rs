//! Words that other processes may read: a memory file that is found by its name below `/proc/PID/fd`, and by nothing else, so
//! that it is gone with its process, however that ends.

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

/// Longest name that the kernel takes for a memory file.
const NAME_BYTES: usize = 249;

/// Words that one process writes, and others may read while it does.
#[derive(Debug)]
pub struct SharedWords {
    map: MmapRaw,
    /// Where other processes find it; `None` if they do not.
    #[cfg_attr(not(test), expect(dead_code, reason = "held open, so that others find it"))]
    file: Option<File>,
}

impl SharedWords {
    /// `count` zeroed words in a memory file called `name`, writable through this mapping only. A child of this process does
    /// not inherit it.
    ///
    /// # Errors
    ///
    /// The kernel refuses; [`private`](Self::private) is the alternative.
    pub fn create(name: &str, count: usize) -> io::Result<Self> {
        let mut end = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = CString::new(&name[..end])?;
        let file = sealed::create(&name, 0)?;
        file.set_len(count as u64 * 8)?;
        let map = MmapOptions::new().len(count * 8).map_raw(&file)?;
        // Nobody else is to write, not even another process of the same user.
        sealed::seal(&file, Writers::Mapped)?;
        // SAFETY: the range is our own mapping. A child that wrote would be a second writer.
        if unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { map, file: Some(file) })
    }

    /// `count` zeroed words that no other process finds.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub fn private(count: usize) -> io::Result<Self> {
        Ok(Self { map: MmapMut::map_anon(count * 8)?.into(), file: None })
    }

    /// Number of words.
    fn count(&self) -> usize {
        self.map.len() / 8
    }
}

/// `N` neighbouring words of [`SharedWords`].
#[derive(Clone, Debug)]
pub struct SharedBlock<const N: usize> {
    at: NonNull<[AtomicU64; N]>,
    _words: Arc<SharedWords>,
}

// SAFETY: it is a reference to atomic words, with what keeps them mapped.
unsafe impl<const N: usize> Send for SharedBlock<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for SharedBlock<N> {}

impl<const N: usize> SharedBlock<N> {
    /// The words from number `first` on.
    ///
    /// # Panics
    ///
    /// If there are fewer than `N` from there on.
    pub fn new(words: &Arc<SharedWords>, first: usize) -> Self {
        assert!(first <= words.count() && N <= words.count() - first, "a block lies in its words");
        // SAFETY: inside the mapping, as just checked, which is aligned to pages and never null.
        let at = unsafe { NonNull::new_unchecked(words.map.as_mut_ptr().cast::<AtomicU64>().add(first)) };
        Self { at: at.cast(), _words: words.clone() }
    }
}

impl<const N: usize> Deref for SharedBlock<N> {
    type Target = [AtomicU64; N];

    #[inline(always)]
    fn deref(&self) -> &[AtomicU64; N] {
        // SAFETY: inside a mapping that `_words` keeps, whose file keeps its length; any process may read the words at any time,
        // which are only accessed as atomic ones.
        unsafe { self.at.as_ref() }
    }
}

/// What another process shares, seen without being able to change it.
#[derive(Debug)]
pub struct ForeignWords {
    map: Mmap,
}

impl ForeignWords {
    /// Maps `count` words of a file that another process made with [`SharedWords::create`].
    ///
    /// # Errors
    ///
    /// [`InvalidData`](io::ErrorKind::InvalidData) if the file has another length, or may change it; the kernel refuses.
    pub fn map(file: &File, count: usize) -> io::Result<Self> {
        // SAFETY: fcntl with this command takes nothing and touches no memory.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if seals < 0 || seals & FIXED != FIXED {
            return wrong("its length is not sealed".into());
        }
        let (len, expected) = (file.metadata()?.len(), count as u64 * 8);
        if len != expected {
            return wrong(format!("it has {len} bytes instead of {expected}"));
        }
        // SAFETY: the file keeps its length, as just checked, and its words are only accessed as atomic ones.
        let map = unsafe { MmapOptions::new().len(count * 8).map(file)? };
        Ok(Self { map })
    }

    /// Some of the words; each at a moment of its own.
    ///
    /// # Panics
    ///
    /// If they leave the file.
    pub fn read(&self, words: Range<usize>) -> Vec<u64> {
        assert!(words.end <= self.map.len() / 8, "the words lie in the file");
        let start = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: inside the mapping, as just checked, aligned; a relaxed load of 64 bits is a plain one, also from memory that
        // cannot be written.
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
    fn what_is_written_is_seen_by_whoever_opens_thefile() {
        let words = Arc::new(SharedWords::create("xdma-test", 16).unwrap());
        let block = SharedBlock::<4>::new(&words, 8);
        block[3].store(7, Ordering::Relaxed);
        let seen = ForeignWords::map(&reopened(&words), 16).unwrap();
        assert_eq!(seen.read(10..12), [0, 7]);
        drop((words, block.clone()));
        block[3].store(8, Ordering::Relaxed);
        assert_eq!(seen.read(11..12), [8], "a block keeps the words");
    }

    #[test]
    fn thefile_cannot_be_resized_or_written_by_others() {
        let words = SharedWords::create(&"ä".repeat(200), 16).unwrap();
        let path = format!("/proc/self/fd/{}", words.file.as_ref().unwrap().as_raw_fd());
        let file = File::options().read(true).write(true).open(path).unwrap();
        assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
        assert!(MmapOptions::new().map_raw(&file).is_err(), "no second mapping to write");
        assert!(std::io::Write::write(&mut &file, &[1]).is_err());
    }

    #[test]
    fn what_could_shrink_is_not_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(128).unwrap();
        let error = ForeignWords::map(&file, 16).unwrap_err();
        assert!(error.to_string().contains("not sealed"), "{error}");
        let words = SharedWords::create("xdma-test", 16).unwrap();
        let error = ForeignWords::map(&reopened(&words), 17).unwrap_err();
        assert!(error.to_string().contains("128 bytes instead of 136"), "{error}");
    }

    #[test]
    fn private_words_work_alike() {
        let words = Arc::new(SharedWords::private(4).unwrap());
        SharedBlock::<4>::new(&words, 0)[0].store(1, Ordering::Relaxed);
        assert_eq!(SharedBlock::<1>::new(&words, 0)[0].load(Ordering::Relaxed), 1);
    }
}
