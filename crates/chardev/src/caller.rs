//! The interface between the implementation of the calls and the caller of a device file.

use rustix::io::Errno;
use std::ops::Range;
use std::sync::Arc;
use xdma::card::Card;
use xdma::channel::{Channel, SubmitError, Ticket};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma::unstable::channel::submit;
use xdma::unstable::memory::{PinnedMemory, SharedMemory};

/// Memory of the caller that the card can access.
#[derive(Debug)]
pub enum CardMemory<'a> {
    /// The memory of the buffer itself.
    Pinned(Arc<PinnedMemory>),
    /// A window that the caller shares with the broker. The caller copies the data.
    Window(&'a SharedMemory),
}

/// The memory in which the card accesses the data of a call.
#[derive(Debug)]
pub struct InPlace<'a> {
    /// The memory.
    pub memory: CardMemory<'a>,
    /// Where the data starts in the memory, in bytes.
    pub offset: u64,
}

impl InPlace<'_> {
    /// Submits a transfer of the bytes in `range` of the data.
    #[inline(always)]
    pub(crate) fn submit(
        &self,
        channel: &mut Channel,
        range: Range<u64>,
        card: u64,
    ) -> Result<Ticket, Box<SubmitError>> {
        let range = self.offset + range.start..self.offset + range.end;
        match &self.memory {
            CardMemory::Pinned(memory) => submit(channel, &**memory, range, card),
            CardMemory::Window(memory) => submit(channel, *memory, range, card),
        }
    }
}

/// A thread that calls a device file: access to its memory, and cancellation by signals.
pub trait Caller {
    /// Copies data from the caller's memory.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the memory is not readable.
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno>;

    /// Copies data to the caller's memory.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the memory is not writable.
    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno>;

    /// Copies the first `length` bytes of DMA memory to the caller's memory.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the caller's memory is not writable.
    fn copy_out(&self, address: u64, from: &Buffer, length: u64) -> Result<(), Errno>;

    /// Checks that a range of the caller's memory is readable, so that a call with a bad buffer has no effect.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it is not.
    fn probe(&self, address: u64, length: u64) -> Result<(), Errno>;

    /// Prepares for a wait that may be long. This is called once, before the first [`is_cancelled`](Self::is_cancelled).
    fn begin_wait(&self) {}

    /// Returns whether the caller has cancelled the call, or no longer waits for it. This is called only while the call has to
    /// wait.
    fn is_cancelled(&self) -> bool;

    /// Returns memory that the card can access for this call, or `None` if the data must be copied.
    fn in_place(&self, card: &Card, address: u64, length: u64, direction: Direction) -> Option<InPlace<'_>> {
        let _ = (card, address, length, direction);
        None
    }
}
