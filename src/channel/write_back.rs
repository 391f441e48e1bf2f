//! What a channel's engine reports to: its write-back words.

use crate::memory::{Access, Buffer, DmaSpace, MAX_JOBS, MemoryError, Words};
use crate::regs::channel::WriteBack;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Write-back words of a channel, used one after the other by chains.
pub const WORDS: usize = 64;
/// Bytes from one stream buffer's metadata to the next: two words, and as far apart as the vendor's driver has them (`libxdma.h`,
/// `struct xdma_result`).
pub(super) const METADATA_STRIDE: u64 = 32;

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
        let new = space.allocate(METADATA_STRIDE * MAX_JOBS as u64, Access::CardWrites)?;
        Ok(self.metadata.get_or_init(|| new))
    }

    /// The number with which jobs go on, so that those of all owners can be counted together.
    pub(super) fn next_job(&self) -> u64 {
        self.next_job.load(Ordering::Acquire)
    }

    fn condemn(&self) {
        self.buffer.handle().condemn();
        if let Some(metadata) = self.metadata.get() {
            metadata.handle().condemn();
        }
    }
}

/// The word that the engine writes now, and what was seen in it.
#[derive(Debug)]
pub(super) struct Report {
    area: Arc<WriteBackArea>,
    words: Words<WORDS>,
    /// Device address of the first word.
    base: u64,
    /// The word that the engine writes since it was started last.
    now: usize,
    /// What was seen there last.
    last: u32,
}

impl Report {
    pub fn new(area: Arc<WriteBackArea>) -> Result<Self, MemoryError> {
        let words = area.buffer.words(0)?;
        // What is still on its way for the last owner goes to the word before.
        let now = (area.last.load(Ordering::Acquire) + 1) % WORDS;
        Ok(Self { words, base: area.buffer.address(), now, last: 0, area })
    }

    /// What is in the word.
    #[inline(always)]
    pub fn load(&self) -> WriteBack {
        WriteBack(self.words.load(self.now))
    }

    /// Whether that was noted before.
    #[inline(always)]
    pub fn is_known(&self, word: WriteBack) -> bool {
        word.0 == self.last
    }

    #[inline(always)]
    pub fn note_known(&mut self, word: WriteBack) {
        self.last = word.0;
    }

    /// Goes on to the next word, zeroed, as the engine will; the low half of its device address.
    #[inline(always)]
    pub fn advance(&mut self) -> u32 {
        self.now = (self.now + 1) % WORDS;
        self.words.store(self.now, 0);
        self.last = 0;
        self.address() as u32
    }

    /// Device address of the word.
    #[inline(always)]
    pub fn address(&self) -> u64 {
        self.base + 4 * self.now as u64
    }

    /// Zeroes all words; the engine is stopped.
    pub fn forget(&mut self) {
        self.last = 0;
        (0..WORDS).for_each(|word| self.words.store(word, 0));
    }

    /// The channel's owner leaves, before its job `next_job`.
    pub fn leave(&self, next_job: u64) {
        self.area.next_job.store(next_job, Ordering::Release);
        self.area.last.store(self.now, Ordering::Release);
    }

    /// Memory for a stream's metadata.
    pub fn metadata(&self, space: &DmaSpace) -> Result<&Buffer, MemoryError> {
        self.area.metadata(space)
    }

    /// The engine may go on writing.
    pub fn condemn(&self) {
        self.area.condemn();
    }
}
