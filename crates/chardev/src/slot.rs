//! A page of memory through which a client's thread and the broker exchange requests and replies.
//!
//! The other side may be hostile: it can change every word at any time. A request is therefore copied once before it is checked.
//! This process never uses a word of the page as an address or an index.

#![allow(unsafe_code, reason = "the page is shared with another process")]

use crate::turn::{self, Turn};
use crate::wire::{Reply, Request};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Size of the page in bytes.
const BYTES: usize = 4096;

/// The contents of the page.
#[repr(C)]
struct Page {
    turn: Turn,
    is_cancelled: AtomicU32,
    request: [AtomicU64; Request::WORDS],
    reply: [AtomicU64; Reply::WORDS],
}

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

    #[inline]
    fn page(&self) -> &Page {
        const { assert!(size_of::<Page>() <= BYTES) };
        // SAFETY: the mapping is page-aligned, longer than the structure, and lives as long as `self`. Both sides access the words
        // only atomically. Other accesses by a hostile process result at worst in a torn value.
        unsafe { &*self.map.as_ptr().cast() }
    }

    /// The client: passes a request to the broker.
    #[inline]
    pub fn send(&self, request: &Request) {
        let page = self.page();
        page.is_cancelled.store(0, Ordering::Relaxed);
        store(&page.request, request.to_words());
        page.turn.pass(turn::BROKER);
    }

    /// The client: returns the reply to a request if it is complete after a short time.
    #[inline]
    pub fn receive_soon(&self) -> Option<Reply> {
        let page = self.page();
        page.turn.wait_shortly_for(turn::REPLIED).then(|| Reply::from_words(load(&page.reply)))
    }

    /// The client: sleeps until the reply to a request is complete, at most for `limit`. Returns early after a signal.
    pub fn receive(&self, limit: Duration) -> Option<Reply> {
        let page = self.page();
        page.turn.sleep_for(turn::REPLIED, limit).then(|| Reply::from_words(load(&page.reply)))
    }

    /// The client: cancels the request in progress.
    pub fn cancel(&self) {
        self.page().is_cancelled.store(1, Ordering::Relaxed);
    }

    /// The broker: returns whose turn it is, for [`next`](Self::next).
    #[inline]
    pub(crate) fn turn(&self) -> u32 {
        self.page().turn.get()
    }

    /// The broker: waits for the next request. Returns `None` if the thread was woken for another reason since it was the turn
    /// that [`turn`](Self::turn) has returned.
    #[inline]
    pub(crate) fn next(&self, seen: u32) -> Option<Result<Request, Errno>> {
        let page = self.page();
        let is_request = page.turn.wait_for(turn::BROKER, seen);
        is_request.then(|| Request::from_words(load(&page.request)).ok_or(Errno::PROTO))
    }

    /// The broker: passes the reply to the client.
    #[inline]
    pub(crate) fn reply(&self, reply: Reply) {
        let page = self.page();
        store(&page.reply, reply.to_words());
        page.turn.pass(turn::REPLIED);
    }

    /// The broker: returns whether the client has cancelled its request.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.page().is_cancelled.load(Ordering::Relaxed) != 0
    }

    /// The broker: wakes the thread that waits for a request.
    pub(crate) fn wake(&self) {
        self.page().turn.wake();
    }
}

#[inline]
fn store<const N: usize>(to: &[AtomicU64; N], words: [u64; N]) {
    for (to, word) in to.iter().zip(words) {
        to.store(word, Ordering::Relaxed);
    }
}

#[inline]
fn load<const N: usize>(from: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|at| from[at].load(Ordering::Relaxed))
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
                    if let Some(request) = broker.next(broker.turn()) {
                        break request.unwrap();
                    }
                };
                assert_eq!(request.position, expected);
                broker.reply(Reply { result: -(expected as i64), in_window: expected % 2 == 0 });
            }
        });
        for position in 0..1000 {
            client.send(&Request { position, ..Request::new(Operation::Seek, 7) });
            let reply = client.receive_soon().or_else(|| client.receive(Duration::from_secs(60))).unwrap();
            assert_eq!(reply, Reply { result: -(position as i64), in_window: position % 2 == 0 });
        }
        server.join().unwrap();
        // No broker is left that could reply.
        client.send(&Request::new(Operation::Check, 0));
        assert_eq!(client.receive(Duration::from_millis(10)), None);
    }

    #[test]
    fn a_short_file_is_rejected() {
        assert!(Slot::map(&tempfile::tempfile().unwrap()).is_err());
    }
}
