//! DMA memory that other processes can access.

use super::{Access, Buffer, DmaMemory, MemoryError, Piece, Pieces};
use std::fs::File;
use std::ops::Range;

/// Memory that a card reads or writes, and that other processes can map and write.
///
/// This process has no access to the contents. A process that receives the file can only change the data of transfers: the length
/// of the file is fixed, and the card keeps its pages even if the process punches holes into the file.
#[derive(Debug)]
pub struct SharedMemory {
    buffer: Buffer,
    file: File,
}

impl SharedMemory {
    pub(super) fn new(buffer: Buffer, file: File) -> Self {
        Self { buffer, file }
    }

    /// Returns the memory file. Its length is that of the memory.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl DmaMemory for SharedMemory {
    fn byte_len(&self) -> u64 {
        self.buffer.byte_len()
    }

    fn access(&self) -> Access {
        self.buffer.access()
    }
}

impl Pieces for SharedMemory {
    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        self.buffer.pieces(range, each)
    }

    #[inline]
    fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        self.buffer.piece(range)
    }
}
