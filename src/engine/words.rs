//! What a channel's engine reports to.

use super::stream::{MAX_BUFFERS, METADATA_STRIDE};
use crate::memory::{Access, Buffer, DmaSpace, MemoryError, Word};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Write-back words of a channel, used one after the other by chains.
pub const WORDS: usize = 64;

/// The memory of a channel's write-back words. It is the card's rather than the channel's: an engine that was seen idle may still have
/// a write-back on its way, which must find neither another user of the memory nor the channel's next owner at that word.
#[derive(Debug)]
pub struct WriteBackArea {
    buffer: Buffer,
    /// The word that was used last.
    last: AtomicUsize,
    /// Number of the channel's next job.
    next_job: AtomicU64,
    /// Where a C2H stream's engine tells what it put into each buffer.
    metadata: OnceLock<Buffer>,
}

impl WriteBackArea {
    /// Memory for the words of one channel; to be kept until the card can no longer write.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn new(space: &DmaSpace) -> Result<Self, MemoryError> {
        let buffer = space.allocate(4 * WORDS as u64, Access::CardWrites)?;
        let (last, next_job, metadata) = (AtomicUsize::new(0), AtomicU64::new(0), OnceLock::new());
        Ok(Self { buffer, last, next_job, metadata })
    }

    /// Memory for the metadata of a stream's buffers, as many as there can be.
    pub(super) fn metadata(&self, space: &DmaSpace) -> Result<&Buffer, MemoryError> {
        if let Some(known) = self.metadata.get() {
            return Ok(known);
        }
        let new = space.allocate(METADATA_STRIDE * MAX_BUFFERS as u64, Access::CardWrites)?;
        Ok(self.metadata.get_or_init(|| new))
    }

    pub(super) fn words(&self) -> Result<Box<[Word; WORDS]>, MemoryError> {
        let words: Vec<_> = (0..WORDS as u64).map(|at| self.buffer.word(at * 4)).collect::<Result<_, _>>()?;
        Ok(words.try_into().expect("as many as collected"))
    }

    /// Device address of the first word.
    pub(super) fn address(&self) -> u64 {
        self.buffer.address()
    }

    /// The word that the channel's last owner used last.
    pub(super) fn last(&self) -> usize {
        self.last.load(Ordering::Acquire)
    }

    /// The number with which jobs go on, so that those of all owners can be counted together.
    pub(super) fn next_job(&self) -> u64 {
        self.next_job.load(Ordering::Acquire)
    }

    /// An owner leaves, having used word `last`, before its job `next_job`.
    pub(super) fn leave(&self, last: usize, next_job: u64) {
        self.next_job.store(next_job, Ordering::Release);
        self.last.store(last, Ordering::Release);
    }

    /// The engine may go on writing.
    pub(super) fn condemn(&self) {
        self.buffer.hold().condemn();
        if let Some(metadata) = self.metadata.get() {
            metadata.hold().condemn();
        }
    }
}
