//! A page of memory through which a client's thread and the broker exchange requests and replies.
//!
//! Each side waits for a change of the page's first word. It first yields the processor a few times, which is enough for a short
//! call, and then sleeps (a futex). It marks the word before it sleeps, so that the other side makes a system call only to wake it.
//!
//! The other side may be hostile: it can change every word at any time. A request is therefore copied once before it is checked.
//! This process never uses a word of the page as an address or an index.

#![allow(unsafe_code, reason = "the page is shared with another process")]

use crate::wire::{Reply, Request};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::thread::{futex, sched_yield};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Size of the page in bytes.
const BYTES: usize = 4096;
/// Number of words in use.
const WORDS: usize = 2 + Request::BYTES / 4 + Reply::BYTES / 4;
const TURN: usize = 0;
const CANCEL: usize = 1;
const REQUEST: usize = 2;
const REPLY: usize = REQUEST + Request::BYTES / 4;

/// The values of the first word. At first, it is 0.
mod turn {
    /// The broker executes the request.
    pub const BROKER: u32 = 1;
    /// The reply is complete. The client may write the next request.
    pub const REPLIED: u32 = 2;
    /// Added to a value while the other side sleeps, or is about to.
    pub const SLEEPING: u32 = 1 << 30;
    /// Changes whenever a thread of the broker is woken for another reason than a request.
    pub const WOKEN: u32 = 1 << 31;
}

/// How often a side yields the processor before it sleeps.
const YIELDS: u32 = 30;

/// One side's mapping of the page.
#[derive(Debug)]
pub struct Slot {
    map: MmapRaw,
}

impl Slot {
    /// Creates a page. Returns the file with which the other side maps it.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn create() -> io::Result<(Self, File)> {
        let file = memfd_create(c"xdma-slot", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, BYTES as u64)?;
        // Otherwise the other side could cause SIGBUS by truncating the file.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = File::from(file);
        Ok((Self::map(&file)?, file))
    }

    /// Maps the page that the other side created.
    ///
    /// # Errors
    ///
    /// The kernel's error; [`InvalidData`](io::ErrorKind::InvalidData) if the file is too short.
    pub fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() < BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { map: MmapOptions::new().len(BYTES).map_raw(file)? })
    }

    fn words(&self) -> &[AtomicU32; WORDS] {
        // SAFETY: the mapping is page-aligned, longer than the array, and lives as long as `self`. Both sides access the words
        // only atomically. Other accesses by a hostile process result at worst in a torn value.
        unsafe { &*self.map.as_ptr().cast() }
    }

    fn store(&self, at: usize, bytes: &[u8]) {
        for (word, bytes) in self.words()[at..].iter().zip(bytes.as_chunks::<4>().0) {
            word.store(u32::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }

    fn load<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        for (word, bytes) in self.words()[at..].iter().zip(bytes.as_chunks_mut::<4>().0) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        bytes
    }

    /// Returns the value of the first word, without the mark.
    fn turn(&self) -> u32 {
        self.words()[TURN].load(Ordering::Acquire) & !turn::SLEEPING
    }

    fn pass(&self, turn: u32) {
        let before = self.words()[TURN].swap(turn, Ordering::AcqRel);
        if before & turn::SLEEPING != 0 {
            self.wake_sleeper(1);
        }
    }

    fn wake_sleeper(&self, count: u32) {
        // The call fails only for invalid arguments.
        let _ = futex::wake(&self.words()[TURN], futex::Flags::empty(), count);
    }

    /// Yields the processor until the value of the first word is no longer `turn`, a few times. Returns whether it has changed.
    fn yields_until_changed(&self, turn: u32) -> bool {
        (0..YIELDS).any(|_| {
            sched_yield();
            self.turn() != turn
        })
    }

    /// Sleeps while the value of the first word is `turn`, at most for `limit`. Returns early after a signal.
    fn sleep(&self, turn: u32, limit: Option<Duration>) {
        let limit = limit.map(|limit| futex::Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        });
        let (word, marked) = (&self.words()[TURN], turn | turn::SLEEPING);
        // The mark may remain from an earlier sleep that has reached its limit.
        let mark = word.compare_exchange(turn, marked, Ordering::AcqRel, Ordering::Acquire);
        if mark.is_err_and(|value| value != marked) {
            return;
        }
        // The caller checks the word again, whatever the result is.
        let _ = futex::wait(word, futex::Flags::empty(), marked, limit.as_ref());
    }

    /// The client: passes a request to the broker.
    pub fn send(&self, request: &Request) {
        self.words()[CANCEL].store(0, Ordering::Relaxed);
        self.store(REQUEST, &request.to_bytes());
        self.pass(turn::BROKER);
    }

    /// The client: waits for the reply to a request until `deadline` at the latest.
    pub fn receive(&self, deadline: Instant) -> Option<Reply> {
        let mut value = self.turn();
        if value != turn::REPLIED && self.yields_until_changed(value) {
            value = self.turn();
        }
        while value != turn::REPLIED {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.sleep(value, Some(left));
            value = self.turn();
        }
        Reply::from_bytes(&self.load::<{ Reply::BYTES }>(REPLY))
    }

    /// The client: cancels the request in progress.
    pub fn cancel(&self) {
        self.words()[CANCEL].store(1, Ordering::Relaxed);
    }

    /// The broker: waits for the next request. Returns `None` if the thread was woken for another reason.
    pub(crate) fn next(&self) -> Option<Result<Request, Errno>> {
        let value = self.turn();
        if value != turn::BROKER && !self.yields_until_changed(value) {
            self.sleep(value, None);
        }
        let is_request = self.turn() == turn::BROKER;
        is_request.then(|| Request::from_bytes(&self.load::<{ Request::BYTES }>(REQUEST)).ok_or(Errno::PROTO))
    }

    /// The broker: passes the reply to the client.
    pub(crate) fn reply(&self, reply: Reply) {
        self.store(REPLY, &reply.to_bytes());
        self.pass(turn::REPLIED);
    }

    /// The broker: returns whether the client has cancelled its request.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.words()[CANCEL].load(Ordering::Relaxed) != 0
    }

    /// The broker: wakes the thread that waits for a request.
    pub(crate) fn wake(&self) {
        // The word is changed before the wake-up, so a thread that is about to sleep sees the new value and does not sleep.
        self.words()[TURN].fetch_xor(turn::WOKEN, Ordering::Release);
        self.wake_sleeper(i32::MAX as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Operation;

    #[test]
    fn requests_and_replies_pass_between_threads() {
        let (broker, file) = Slot::create().unwrap();
        let client = Slot::map(&file).unwrap();
        let server = std::thread::spawn(move || {
            for expected in 0..1000 {
                let request = loop {
                    if let Some(request) = broker.next() {
                        break request.unwrap();
                    }
                };
                assert_eq!(request.position, expected);
                broker.reply(Reply { result: -(expected as i64), in_window: expected % 2 == 0 });
            }
        });
        for position in 0..1000 {
            client.send(&Request { position, ..Request::new(Operation::Seek, 7) });
            let reply = client.receive(Instant::now() + Duration::from_secs(60)).unwrap();
            assert_eq!(reply, Reply { result: -(position as i64), in_window: position % 2 == 0 });
        }
        server.join().unwrap();
        // No broker is left that could reply.
        client.send(&Request::new(Operation::Check, 0));
        assert_eq!(client.receive(Instant::now() + Duration::from_millis(10)), None);
    }

    #[test]
    fn a_short_file_is_rejected() {
        assert!(Slot::map(&tempfile::tempfile().unwrap()).is_err());
    }
}
