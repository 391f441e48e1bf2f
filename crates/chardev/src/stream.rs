//! AXI-Stream channels.

use crate::errno;
use crate::limit::WaitLimit;
use crate::transfer::{HALF, Transfer, copy_in, pieces};
use rustix::io::Errno;
use xdma::card::Card;
use xdma::channel::stream::{ReceiveError, Received, Receiver, ReceiverOptions, Sender};
use xdma::channel::{ChannelOptions, EngineError, OpenError, Ticket, WaitError};
use xdma::memory::Buffer;

/// Size of a receive buffer in bytes: one page, like the buffers of the kernel module's descriptors.
const PAGE: usize = 4096;
/// Number of receive buffers.
const BUFFERS: usize = 256;

/// Sends one packet.
pub(crate) fn send(
    sender: &mut Sender,
    halves: &mut [Buffer; 2],
    transfer: &Transfer,
    wait_limit: &WaitLimit,
    done: &mut u64,
) -> Result<(), Errno> {
    let mut previous: Option<(Ticket, u64)> = None;
    for (number, (offset, length)) in pieces(transfer.count, HALF).enumerate() {
        let half = &mut halves[number % 2];
        copy_in(half, transfer, offset, length)?;
        let is_last = offset + length == transfer.count;
        let sent = if is_last { sender.send(half, 0..length) } else { sender.send_part(half, 0..length) };
        let ticket = sent.map_err(|error| errno::of_submit(&error))?;
        if let Some((ticket, length)) = previous.replace((ticket, length)) {
            wait_limit.wait(sender, ticket)?;
            *done += length;
        }
    }
    if let Some((ticket, length)) = previous {
        wait_limit.wait(sender, ticket)?;
        *done += length;
    }
    Ok(())
}

/// The receiving end of a stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    receiver: Receiver,
    /// A received buffer, and the number of bytes already read from it. The next call continues there.
    current: Option<(Received, usize)>,
    /// Whether the engine failed, and was not recovered since.
    unrecovered: bool,
}

impl Incoming {
    pub fn open(card: &Card, index: usize, channel: ChannelOptions) -> Result<Self, OpenError> {
        let options =
            ReceiverOptions { channel, buffers: BUFFERS, bytes: PAGE as u32, ..ReceiverOptions::default() };
        Ok(Self { receiver: card.stream_c2h(index, options)?, current: None, unrecovered: false })
    }

    pub fn recover(&mut self) -> Result<(), EngineError> {
        // Received data stays available, and an engine that works keeps its buffers.
        if self.unrecovered {
            self.receiver.recover()?;
            self.unrecovered = false;
        }
        Ok(())
    }

    /// Fills the caller's buffer page by page, like the kernel module's descriptors: each packet starts in a new page. With
    /// `O_TRUNC`, the call returns at the end of a packet; otherwise, it returns when all pages have been used.
    pub fn read(&mut self, transfer: &Transfer, wait_limit: &WaitLimit, done: &mut u64) -> Result<(), Errno> {
        let mut offset = 0;
        while offset < transfer.count {
            let page_end = ((transfer.address + offset) / PAGE as u64 + 1) * PAGE as u64 - transfer.address;
            let room = page_end.min(transfer.count) - offset;
            let (length, ends_packet) = self.read_page(transfer, offset, room as usize, wait_limit)?;
            *done += length as u64;
            offset = page_end;
            if ends_packet && transfer.ends_with_packet {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Copies up to `room` bytes of the current packet. Returns the number of bytes, and whether they end the packet.
    fn read_page(
        &mut self,
        transfer: &Transfer,
        offset: u64,
        room: usize,
        wait_limit: &WaitLimit,
    ) -> Result<(usize, bool), Errno> {
        let mut page = [0; PAGE];
        let mut filled = 0;
        loop {
            let (received, used) = match self.current.take() {
                Some(current) => current,
                None => match self.receive(wait_limit) {
                    Ok(received) => (received, 0),
                    // Deliver the data that has arrived. The next wait in this call returns the error.
                    Err(_) if filled > 0 => {
                        transfer.caller.write(transfer.address + offset, &page[..filled])?;
                        return Ok((filled, false));
                    }
                    Err(errno) => return Err(errno),
                },
            };
            let length = (received.len() - used).min(room - filled);
            let read = self.receiver.read(&received, used, &mut page[filled..filled + length]);
            read.map_err(|_| Errno::IO)?;
            filled += length;
            let is_done = used + length == received.len();
            let ends = is_done && received.ends_packet();
            match is_done {
                true => self.receiver.recycle(received).map_err(|_| Errno::IO)?,
                false => self.current = Some((received, used + length)),
            }
            if ends || filled == room {
                transfer.caller.write(transfer.address + offset, &page[..filled])?;
                return Ok((filled, ends));
            }
        }
    }

    fn receive(&mut self, wait_limit: &WaitLimit) -> Result<Received, Errno> {
        self.recover().map_err(|error| errno::of_engine(&error))?;
        loop {
            match self.receiver.wait(wait_limit.slice()?) {
                Ok(received) => {
                    wait_limit.restart();
                    return Ok(received);
                }
                Err(ReceiveError::Wait(WaitError::Deadline { .. })) => {}
                Err(error) => {
                    tracing::warn!(%error, "a stream failed");
                    self.unrecovered = true;
                    return Err(error.engine().map_or(Errno::IO, errno::of_engine));
                }
            }
        }
    }
}
