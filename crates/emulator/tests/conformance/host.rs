//! Host memory that the card can access, and descriptors in it.

use memmap2::MmapRaw;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Memory with a file descriptor, as required by vfio-user.
pub struct Host {
    file: File,
    map: MmapRaw,
    /// The address of the memory as seen by the card.
    pub iova: u64,
}

impl Host {
    pub fn new(iova: u64, len: usize) -> Self {
        // SAFETY: the name is a C string; the call has no other requirements.
        let fd = unsafe { libc::memfd_create(c"conformance".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
        // SAFETY: the call above returned this descriptor, and it has no other owner.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len as u64).unwrap();
        let map = MmapRaw::map_raw(&file).unwrap();
        Self { file, map, iova }
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns the card's address of `offset`.
    pub fn at(&self, offset: usize) -> u64 {
        assert!(offset < self.len());
        self.iova + offset as u64
    }

    /// Returns an aligned word, which the card may write at any time.
    fn cell(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len());
        // SAFETY: the address is inside the mapping and aligned. This process accesses the shared words only through atomics.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    pub fn word(&self, offset: usize) -> u32 {
        u32::from_le(self.cell(offset).load(Ordering::Acquire))
    }

    pub fn set_word(&self, offset: usize, value: u32) {
        self.cell(offset).store(value.to_le(), Ordering::Release);
    }

    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len());
        // SAFETY: the address is inside the mapping, and any byte value is valid.
        (offset..offset + len).map(|at| unsafe { self.map.as_mut_ptr().add(at).read_volatile() }).collect()
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len());
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: the address is inside the mapping.
            unsafe { self.map.as_mut_ptr().add(offset + i).write_volatile(*byte) };
        }
    }

    pub fn put(&self, offset: usize, descriptor: [u32; 8]) {
        for (i, word) in descriptor.into_iter().enumerate() {
            self.set_word(offset + 4 * i, word);
        }
    }
}

pub const STOP: u32 = 0x01;
pub const COMPLETED: u32 = 0x02;
pub const EOP: u32 = 0x10;

/// Returns a descriptor (PG195 "Descriptors"): magic 0xad4b, adjacent count in 13:8, control in 7:0; length; source; destination;
/// next.
pub fn descriptor(control: u32, adjacent: u32, length: u32, from: u64, to: u64, next: u64) -> [u32; 8] {
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let ([a, b], [c, d], [e, f]) = (halves(from), halves(to), halves(next));
    [0xad4b_0000 | adjacent << 8 | control, length, a, b, c, d, e, f]
}

/// Returns pseudorandom bytes that depend on the seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
