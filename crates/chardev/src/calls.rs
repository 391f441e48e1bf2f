//! Counters of the calls on device files, for `xdma run --explain`.
//!
//! Each process maps a file with its counters, so they survive even if the process is killed. A file is an array of words: a
//! header, followed by a slot for each kind of call. At the end, the report reads all files.

use crate::node::Node;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that contains the path of the directory for the counters. Without it, calls are not counted.
pub const EXPLAIN_VARIABLE: &str = "XDMA_EXPLAIN";
/// The name of the text file in that directory, with a line for each remark.
pub const REMARKS: &str = "remarks";

/// Number of words of the header: the process ID, the number of calls without a slot, and the name.
const HEADER: usize = 4;
/// Words of the process's name.
const NAME: usize = 2;
/// Number of slots. Each is a key, a number of calls, and a number of bytes.
const SLOTS: usize = 1024;
const SLOT: usize = 3;
/// The value that a key without a device file stores as its file.
const NO_NODE: u64 = 0xfff;

/// A function that was called on a device file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the variants are the functions of the C library")]
pub enum Call {
    Open = 1,
    Read,
    Write,
    Pread,
    Pwrite,
    Readv,
    Writev,
    Preadv,
    Pwritev,
    Lseek,
    Ioctl,
    Mmap,
    EpollCtl,
    Sendfile,
    Splice,
    CopyFileRange,
    AioRead,
    AioWrite,
    IoSubmit,
    LioListio,
}

impl Call {
    const ALL: [(Self, &str); 20] = [
        (Self::Open, "open"),
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Pread, "pread"),
        (Self::Pwrite, "pwrite"),
        (Self::Readv, "readv"),
        (Self::Writev, "writev"),
        (Self::Preadv, "preadv"),
        (Self::Pwritev, "pwritev"),
        (Self::Lseek, "lseek"),
        (Self::Ioctl, "ioctl"),
        (Self::Mmap, "mmap"),
        (Self::EpollCtl, "epoll_ctl"),
        (Self::Sendfile, "sendfile"),
        (Self::Splice, "splice"),
        (Self::CopyFileRange, "copy_file_range"),
        (Self::AioRead, "aio_read"),
        (Self::AioWrite, "aio_write"),
        (Self::IoSubmit, "io_submit"),
        (Self::LioListio, "lio_listio"),
    ];

    /// Returns the name of the function.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(call, _)| *call == self).map_or("", |(_, name)| name)
    }
}

/// What a slot counts: calls with the same function, file, error and detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallKey {
    /// The function.
    pub call: Call,
    /// The file.
    pub node: Node,
    /// The number of the error, or 0.
    pub errno: u16,
    /// The number of an ioctl; for a transfer in place, [`CallKey::IN_PLACE`].
    pub detail: u32,
}

impl CallKey {
    /// The detail of a transfer whose data was not copied.
    pub const IN_PLACE: u32 = 1;

    fn to_bits(self) -> u64 {
        let errno = u64::from(self.errno & 0xfff);
        u64::from(self.detail) << 32 | errno << 20 | u64::from(self.node.minor()) << 8 | self.call as u64
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let (call, _) = Call::ALL.into_iter().find(|(call, _)| *call as u64 == bits & 0xff)?;
        let node = Node::from_minor((bits >> 8 & NO_NODE) as u32)?;
        Some(Self { call, node, errno: (bits >> 20 & 0xfff) as u16, detail: (bits >> 32) as u32 })
    }
}

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What is counted.
    pub key: CallKey,
    /// Number of calls.
    pub calls: u64,
    /// Number of bytes that they moved or mapped.
    pub bytes: u64,
}

/// A process's counters.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'a>(&'a [AtomicU64]);

impl<'a> Counters<'a> {
    /// Number of words.
    pub const WORDS: usize = HEADER + SLOTS * SLOT;

    /// Returns the counters in these words, or `None` if the number of words is wrong. Initially, all words are 0.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        (words.len() == Self::WORDS).then_some(Self(words))
    }

    /// Stores the process's ID and its name, of which up to 16 bytes are kept.
    pub fn identify(self, process: u32, name: &[u8]) {
        self.0[0].store(process.into(), Ordering::Relaxed);
        for (at, part) in name.chunks(8).take(NAME).enumerate() {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            self.0[HEADER - NAME + at].store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
    }

    /// Returns the process's ID and its name.
    pub fn process(self) -> (u64, String) {
        let words =
            self.0[HEADER - NAME..HEADER].iter().map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        let name: Vec<u8> = words.flatten().take_while(|byte| *byte != 0).collect();
        (self.0[0].load(Ordering::Relaxed), String::from_utf8_lossy(&name).into_owned())
    }

    /// Counts a call. Takes no lock, so signal handlers and child processes may also call it.
    pub fn add(self, key: CallKey, bytes: u64) {
        let bits = key.to_bits();
        let start = (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        for probe in 0..SLOTS {
            let at = HEADER + (start + probe) % SLOTS * SLOT;
            let taken = self.0[at].compare_exchange(0, bits, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() || taken == Err(bits) {
                self.0[at + 1].fetch_add(1, Ordering::Relaxed);
                self.0[at + 2].fetch_add(bytes, Ordering::Relaxed);
                return;
            }
        }
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of calls that were not counted, because no slot was free.
    pub fn uncounted(self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }

    /// Returns the slots in use.
    pub fn counted(self) -> impl Iterator<Item = Counted> + use<'a> {
        self.0[HEADER..].chunks_exact(SLOT).filter_map(|slot| {
            let [key, calls, bytes] = [0, 1, 2].map(|at: usize| slot[at].load(Ordering::Relaxed));
            Some(Counted { key: CallKey::from_bits(key)?, calls, bytes })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<AtomicU64> {
        std::iter::repeat_with(AtomicU64::default).take(Counters::WORDS).collect()
    }

    #[test]
    fn calls_are_counted_by_kind() {
        let words = words();
        let counters = Counters::new(&words).unwrap();
        counters.identify(17, b"a-name-of-more-than-16-bytes");
        assert_eq!(counters.process(), (17, "a-name-of-more-t".into()));
        let ioctl = CallKey { call: Call::Ioctl, node: Node::Resource(5), errno: 25, detail: u32::MAX };
        let read = CallKey { call: Call::Read, node: Node::C2h(3), errno: 0, detail: 0 };
        counters.add(ioctl, 0);
        counters.add(read, 5);
        counters.add(read, 7);
        let mut counted: Vec<_> = counters.counted().collect();
        counted.sort_by_key(|counted| counted.key.call);
        let expected =
            [Counted { key: read, calls: 2, bytes: 12 }, Counted { key: ioctl, calls: 1, bytes: 0 }];
        assert_eq!(counted, expected);
    }

    #[test]
    fn calls_without_a_slot_and_invalid_words_are_tolerated() {
        let words = words();
        let counters = Counters::new(&words).unwrap();
        for detail in 0..SLOTS as u32 + 3 {
            counters.add(CallKey { call: Call::Ioctl, node: Node::User, errno: 25, detail }, 0);
        }
        assert_eq!((counters.uncounted(), counters.counted().count()), (3, SLOTS));
        words.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        assert_eq!(counters.counted().count(), 0);
        assert!(Counters::new(&words[1..]).is_none());
    }
}
