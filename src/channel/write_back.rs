//! Completion write-back: the words in host memory to which an engine writes its count of completed descriptors.

use crate::memory::{Access, Buffer, DmaSpace, MAX_JOBS, MemoryError, VolatileWords};
use crate::regs::channel::WriteBack;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Number of write-back words of a channel. The chain ring uses them in turn.
pub const WORDS: usize = 64;
/// Distance in bytes between the metadata of two stream buffers. The metadata is two words; the distance is that of the
/// vendor's driver (`libxdma.h`, `struct xdma_result`).
pub(super) const METADATA_STRIDE: u64 = 32;

/// The memory of a channel's write-back words. The card owns it, not the channel: an engine that was seen idle may still have a
/// write-back in flight. That write-back must not reach memory that is reused, or a word that the channel's next owner reads.
#[derive(Debug)]
pub struct WriteBackArea {
    buffer: Buffer,
    /// Index of the word that was used last.
    last: AtomicUsize,
    /// Number of the channel's next job.
    next_job: AtomicU64,
    /// Metadata of a C2H stream's receive buffers.
    metadata: OnceLock<Buffer>,
}

impl WriteBackArea {
    /// Allocates the words of one channel. The caller keeps them until the card can no longer write.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn new(space: &DmaSpace) -> Result<Self, MemoryError> {
        let buffer = space.allocate(4 * WORDS as u64, Access::CardWrites)?;
        let (last, next_job, metadata) = (AtomicUsize::new(0), AtomicU64::new(0), OnceLock::new());
        Ok(Self { buffer, last, next_job, metadata })
    }

    /// Returns the memory for the metadata of receive buffers, for the maximum number of buffers. Allocates it on first use.
    pub(super) fn metadata(&self, space: &DmaSpace) -> Result<&Buffer, MemoryError> {
        if let Some(known) = self.metadata.get() {
            return Ok(known);
        }
        let new = space.allocate(METADATA_STRIDE * MAX_JOBS as u64, Access::CardWrites)?;
        Ok(self.metadata.get_or_init(|| new))
    }

    /// Returns the number of the channel's next job. Numbers continue over all owners of the channel, so that their jobs can be
    /// counted together.
    pub(super) fn next_job(&self) -> u64 {
        self.next_job.load(Ordering::Acquire)
    }

    fn quarantine(&self) {
        self.buffer.handle().quarantine();
        if let Some(metadata) = self.metadata.get() {
            metadata.handle().quarantine();
        }
    }
}

/// The word that the engine currently writes, and the value last read from it.
#[derive(Debug)]
pub(super) struct CompletionWord {
    area: Arc<WriteBackArea>,
    words: VolatileWords<WORDS>,
    /// Device address of the first word.
    base: u64,
    /// Index of the word that the engine has written to since it was last started.
    current: usize,
    /// Value that was processed last.
    last: u32,
}

impl CompletionWord {
    pub fn new(area: Arc<WriteBackArea>) -> Result<Self, MemoryError> {
        let words = area.buffer.words(0)?;
        // Write-backs that are still in flight for the previous owner go to the previous word.
        let current = (area.last.load(Ordering::Acquire) + 1) % WORDS;
        Ok(Self { words, base: area.buffer.address(), current, last: 0, area })
    }

    /// Reads the word.
    #[inline(always)]
    pub fn load(&self) -> WriteBack {
        WriteBack(self.words.load(self.current))
    }

    /// Returns whether this value has been processed.
    #[inline(always)]
    pub fn is_known(&self, word: WriteBack) -> bool {
        word.0 == self.last
    }

    /// Returns the value that was processed last.
    #[inline(always)]
    pub fn known(&self) -> WriteBack {
        WriteBack(self.last)
    }

    #[inline(always)]
    pub fn mark_known(&mut self, word: WriteBack) {
        self.last = word.0;
    }

    /// Moves to the next word and zeroes it, for the next start of the engine. Returns the lower half of its device address.
    #[inline(always)]
    pub fn advance(&mut self) -> u32 {
        self.current = (self.current + 1) % WORDS;
        self.words.store(self.current, 0);
        self.last = 0;
        self.address() as u32
    }

    /// Returns the device address of the word.
    #[inline(always)]
    pub fn address(&self) -> u64 {
        self.base + 4 * self.current as u64
    }

    /// Zeroes all words. The engine is stopped.
    pub fn reset(&mut self) {
        self.last = 0;
        (0..WORDS).for_each(|word| self.words.store(word, 0));
    }

    /// Saves the position for the channel's next owner, whose first job is `next_job`.
    pub fn save_position(&self, next_job: u64) {
        self.area.next_job.store(next_job, Ordering::Release);
        self.area.last.store(self.current, Ordering::Release);
    }

    /// Returns the memory for the metadata of receive buffers.
    pub fn metadata(&self, space: &DmaSpace) -> Result<&Buffer, MemoryError> {
        self.area.metadata(space)
    }

    /// Quarantines the memory, because the engine may still write to it.
    pub fn quarantine(&self) {
        self.area.quarantine();
    }
}
