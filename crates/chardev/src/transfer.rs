//! The data of a call on a memory-mapped channel.
//!
//! If the card can access the caller's memory, the data is transferred in place. Otherwise the data passes through two halves
//! of the channel's DMA memory: while the engine transfers one half, the other half is copied.

use crate::caller::{Caller, InPlace};
use crate::errno;
use crate::limit::WaitLimit;
use rustix::io::Errno;
use xdma::channel::{Channel, Ticket};
use xdma::memory::Buffer;

/// Size in bytes of each half of a channel's DMA memory.
pub(crate) const HALF: u64 = 1 << 20;
/// Maximum size in bytes of a piece that is transferred in place. A descriptor's maximum is just below 256 MiB.
pub(crate) const PIECE: u64 = 128 << 20;

/// A `read` or `write` call on a channel. The shortest path is compiled for each type of caller, and all others for any.
pub(crate) struct Transfer<'a, C: ?Sized = dyn Caller + 'a> {
    pub caller: &'a C,
    /// The caller's buffer.
    pub address: u64,
    pub count: u64,
    /// The card address.
    pub position: u64,
    /// Whether a read from a stream returns at the end of a packet (`O_TRUNC`).
    pub ends_with_packet: bool,
}

impl<'a, C: Caller> Transfer<'a, C> {
    /// Returns the same call, of any type of caller.
    pub fn of_any_caller(self) -> Transfer<'a> {
        let Self { caller, address, count, position, ends_with_packet } = self;
        Transfer { caller, address, count, position, ends_with_packet }
    }
}

/// A call in progress on a memory-mapped channel.
pub(crate) struct Progress<'a> {
    pub channel: &'a mut Channel,
    pub transfer: &'a Transfer<'a>,
    pub limit: &'a WaitLimit<'a>,
    /// Whether all pieces of the call go to one card address.
    pub fixed: bool,
    /// The number of bytes transferred.
    pub done: &'a mut u64,
}

/// Returns the offset and length of each piece of a call.
pub(crate) fn pieces(count: u64, size: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..count).step_by(size as usize).map(move |offset| (offset, size.min(count - offset)))
}

impl Progress<'_> {
    fn card(&self, offset: u64) -> u64 {
        self.transfer.position + if self.fixed { 0 } else { offset }
    }

    /// Transfers the data in place, in the caller's memory.
    pub fn in_place(&mut self, memory: &InPlace) -> Result<(), Errno> {
        for (offset, length) in pieces(self.transfer.count, PIECE) {
            let card = self.card(offset);
            let submitted = memory.submit(self.channel, offset..offset + length, card);
            let ticket = submitted.map_err(|error| errno::of_submit(&error))?;
            self.limit.wait(self.channel, ticket)?;
            *self.done += length;
        }
        Ok(())
    }

    /// Copies the caller's data to DMA memory, and transfers it from there.
    pub fn write(&mut self, halves: &mut [Buffer; 2]) -> Result<(), Errno> {
        let mut previous: Option<(Ticket, u64)> = None;
        for (number, (offset, length)) in pieces(self.transfer.count, HALF).enumerate() {
            let half = &mut halves[number % 2];
            copy_in(half, self.transfer, offset, length)?;
            let ticket = self.submit(half, offset, length)?;
            if let Some((ticket, length)) = previous.replace((ticket, length)) {
                self.finish(ticket, length)?;
            }
        }
        previous.map_or(Ok(()), |(ticket, length)| self.finish(ticket, length))
    }

    /// Transfers data to DMA memory, and copies it from there to the caller.
    pub fn read(&mut self, halves: &[Buffer; 2]) -> Result<(), Errno> {
        let mut previous: Option<(Ticket, usize, u64, u64)> = None;
        for (number, (offset, length)) in pieces(self.transfer.count, HALF).enumerate() {
            let ticket = self.submit(&halves[number % 2], offset, length)?;
            if let Some(piece) = previous.replace((ticket, number % 2, offset, length)) {
                self.finish_read(halves, piece)?;
            }
        }
        previous.map_or(Ok(()), |piece| self.finish_read(halves, piece))
    }

    fn finish_read(
        &mut self,
        halves: &[Buffer; 2],
        (ticket, half, offset, length): (Ticket, usize, u64, u64),
    ) -> Result<(), Errno> {
        self.limit.wait(self.channel, ticket)?;
        self.transfer.caller.copy_out(self.transfer.address + offset, &halves[half], length)?;
        *self.done += length;
        Ok(())
    }

    fn submit(&mut self, half: &Buffer, offset: u64, length: u64) -> Result<Ticket, Errno> {
        let card = self.card(offset);
        self.channel.submit(half, 0..length, card).map_err(|error| errno::of_submit(&error))
    }

    fn finish(&mut self, ticket: Ticket, length: u64) -> Result<(), Errno> {
        self.limit.wait(self.channel, ticket)?;
        *self.done += length;
        Ok(())
    }
}

/// Copies a piece of the caller's buffer to DMA memory.
pub(crate) fn copy_in(half: &mut Buffer, transfer: &Transfer, offset: u64, length: u64) -> Result<(), Errno> {
    let to = half.as_mut_slice::<u8>().map_err(|error| errno::of_memory(&error))?;
    transfer.caller.read(transfer.address + offset, &mut to[..length as usize])
}
