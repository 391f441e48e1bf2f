//! Receiving packets from the card.

use super::MAX_BUFFERS;
use super::buffers::Buffers;
use super::error::{BufferError, ReceiveError};
use crate::channel::completion::Poll;
use crate::channel::context::ChannelContext;
use crate::channel::error::{CloseError, EngineError, OpenError, SubmitError, WaitError};
use crate::channel::handle::{Channel, Ticket};
use crate::channel::options::ChannelOptions;
use crate::channel::write_back::METADATA_STRIDE;
use crate::descriptor::MAX_LENGTH;
use crate::memory::{Access, Buffer, DmaMemory, DmaSpace, MemoryError, Pieces, VolatileWords};
use crate::regs::Direction;
use crate::stats::Count;
use std::time::{Duration, Instant};

/// The upper half of the first metadata word (PG195, "C2H Stream Writeback").
const MAGIC: u32 = 0x52b4;
/// Set if the buffer ends a packet.
const EOP: u32 = 1;
/// Buffer lengths are multiples of the longest beat.
const BEAT: u32 = 64;
/// Maximum number of posted buffers while old data is discarded.
const DISCARD_POSTED: usize = 4;

/// Options for opening a stream for receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// Options of the channel. Its `slots` are overridden by the number of buffers.
    pub channel: ChannelOptions,
    /// Number of buffers, 1 to [`MAX_BUFFERS`].
    pub buffers: usize,
    /// Size of each buffer in bytes, a multiple of 64.
    pub bytes: u32,
    /// Maximum number of buffers posted to the engine; see [`Receiver::set_max_posted`].
    pub max_posted: usize,
    /// How to discard data from a program that ended before it received everything. By default nothing is discarded, because
    /// the stream may be live, with all data meant for this program.
    pub discard: Option<Discard>,
}

/// How old data is discarded when a stream is opened; see [`Receiver::discarded`].
///
/// Data is discarded until none has arrived for a while. A packet in transit at that time is cut: its beginning is discarded,
/// and the rest is received as if it were a packet. While data is discarded, buffers hold 64 bytes. If the old data ends
/// without an end of packet, at most one partial beat of it is left, and becomes part of the next packet. The first
/// packet after discarding may also arrive in some buffers of 64 bytes.
///
/// If [`ReceiverOptions::max_posted`] is 0, the engine has no buffers, and nothing is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// Time without data after which the stream counts as empty.
    pub quiet: Duration,
    /// Time limit for discarding. Data that arrives later is received.
    pub limit: Duration,
}

impl Default for Discard {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(100), limit: Duration::from_secs(5) }
    }
}

/// Data that was discarded when a stream was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Number of bytes.
    pub bytes: u64,
    /// Number of packet ends among them.
    pub packets: u64,
    /// Whether the [limit](Discard::limit) was reached before the stream was quiet, so that more old data may follow.
    pub more: bool,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        let channel = ChannelOptions::default();
        Self { channel, buffers: 64, bytes: 64 << 10, max_posted: MAX_BUFFERS, discard: None }
    }
}

/// A buffer that the engine has filled. It is a plain number: [`Receiver::read`] copies the buffer's data, and
/// [`Receiver::recycle`] posts the buffer again. A buffer that is dropped instead is not filled again until the channel is
/// closed.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost for receiving"]
pub struct Received {
    receiver: u64,
    buffer: usize,
    len: u32,
    ends: bool,
}

impl Received {
    /// Returns the number of bytes received.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns whether no bytes were received.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether a packet ends with this buffer. If not, the packet continues in the next one.
    pub fn ends_packet(&self) -> bool {
        self.ends
    }
}

/// A C2H stream channel with its receive buffers. See the [module](super), which has an example.
#[derive(Debug)]
pub struct Receiver {
    pub(crate) channel: Channel,
    receive_buffers: Box<[ReceiveBuffer]>,
    buffers: Buffers<Ticket>,
    stopped: bool,
    /// Total number of buffers that had been posted when the engine last ran out of them.
    starved: u64,
    /// Number of bytes of a buffer that the engine may fill.
    bytes: u64,
    discarded: Discarded,
}

/// A receive buffer and its metadata.
#[derive(Debug)]
struct ReceiveBuffer {
    memory: Buffer,
    /// Device address of the metadata.
    metadata: u64,
    /// The metadata: status and length.
    words: VolatileWords<2>,
}

impl ReceiveBuffer {
    fn new(space: &DmaSpace, area: &Buffer, number: usize, bytes: u32) -> Result<Self, OpenError> {
        let memory = space.allocate(bytes.into(), Access::CardWrites)?;
        if !memory.is_contiguous() {
            return Err(OpenError::ScatteredBuffer { bytes, page: memory.page() });
        }
        let at = METADATA_STRIDE * number as u64;
        Ok(Self { memory, metadata: area.address() + at, words: area.words(at)? })
    }

    /// Zeroes the metadata.
    fn clear(&self) {
        self.words.store(0, 0);
        self.words.store(1, 0);
    }
}

impl Receiver {
    /// Opens a stream for receiving: stops the channel, sets it up, and posts the buffers.
    ///
    /// # Safety
    ///
    /// As [`Channel::open`].
    pub(crate) unsafe fn open(context: ChannelContext, options: ReceiverOptions) -> Result<Self, OpenError> {
        let ReceiverOptions { channel, buffers, bytes, max_posted, discard } = options;
        if !(1..=MAX_BUFFERS).contains(&buffers)
            || !(1..=MAX_LENGTH).contains(&bytes)
            || !bytes.is_multiple_of(BEAT)
        {
            return Err(OpenError::BadBuffers { buffers, bytes });
        }
        let context = ChannelContext { direction: Direction::C2H, ..context };
        let channel = Channel::open_kind(context, ChannelOptions { slots: buffers, ..channel }, true)?;
        let area = channel.engine.progress.word.metadata(&channel.space)?;
        let receive_buffers =
            (0..buffers).map(|number| ReceiveBuffer::new(&channel.space, area, number, bytes));
        let receive_buffers = receive_buffers.collect::<Result<_, _>>()?;
        let (buffers, discarded) = (Buffers::new(buffers), Discarded::default());
        let bytes = bytes.into();
        let mut this =
            Self { channel, receive_buffers, buffers, stopped: false, starved: 0, bytes, discarded };
        if let Some(discard) = discard
            && max_posted > 0
        {
            this.discard(discard, max_posted)?;
        }
        this.set_max_posted(max_posted)?;
        Ok(this)
    }

    /// Discards arriving data through short buffers. At most `max_posted` of them are posted, because the engine never returns an
    /// unfilled one.
    fn discard(&mut self, options: Discard, max_posted: usize) -> Result<(), ReceiveError> {
        let (begin, bytes) = (Instant::now(), std::mem::replace(&mut self.bytes, BEAT.into()));
        self.set_max_posted(max_posted.min(DISCARD_POSTED))?;
        loop {
            let left = options.limit.saturating_sub(begin.elapsed());
            let received = match self.wait(options.quiet.min(left)) {
                Ok(received) => received,
                Err(ReceiveError::Wait(WaitError::Deadline { .. })) => {
                    self.discarded.more = left < options.quiet;
                    break;
                }
                Err(error) => return Err(error),
            };
            self.discarded.bytes += u64::from(received.len);
            self.discarded.packets += u64::from(received.ends);
            self.refill(received)?;
            if left.is_zero() {
                self.discarded.more = true;
                break;
            }
        }
        self.bytes = bytes;
        let Discarded { bytes, packets, more } = self.discarded;
        if bytes > 0 {
            tracing::info!(
                channel = self.channel.index(),
                bytes,
                packets,
                more,
                "discarded old data of the stream"
            );
        }
        Ok(())
    }

    /// Returns what was discarded when the stream was opened; nothing without [`ReceiverOptions::discard`].
    pub fn discarded(&self) -> Discarded {
        self.discarded
    }

    /// Sets the maximum number of buffers posted to the engine at a time, and posts free buffers up to it. With fewer, the
    /// stream is back-pressured sooner; with 0, the engine becomes idle once it has filled those that it has.
    ///
    /// # Errors
    ///
    /// The channel failed, or was stopped.
    pub fn set_max_posted(&mut self, most: usize) -> Result<(), EngineError> {
        self.buffers.set_max_posted(most);
        self.post_buffers()
    }

    /// Returns the maximum number of buffers posted to the engine.
    pub fn max_posted(&self) -> usize {
        self.buffers.max_posted()
    }

    /// Posts free buffers up to the maximum.
    fn post_buffers(&mut self) -> Result<(), EngineError> {
        while let Some(number) = self.buffers.next() {
            if self.stopped {
                return Err(EngineError::Stopped);
            }
            let buffer = &self.receive_buffers[number];
            buffer.clear();
            let Some(piece) = buffer.memory.piece(0..self.bytes) else { break };
            let submitted = self.channel.submit_receive_buffer(&piece, buffer.metadata);
            match submitted {
                Ok(ticket) => self.buffers.post(ticket),
                Err(SubmitError::Engine(error)) => return Err(error),
                // There are as many slots as buffers. The next call tries again.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Returns the transfer of the oldest posted buffer; `None` if no buffer is posted.
    pub(crate) fn oldest(&mut self) -> Result<Option<Ticket>, EngineError> {
        let filled = self.post_buffers();
        match self.buffers.oldest() {
            // Data that arrived before a failure is returned before the failure is reported.
            Some(ticket) => Ok(Some(ticket)),
            None => filled.map(|()| None),
        }
    }

    /// Returns the next buffer that the engine has filled, if there is one. No system call, no lock, no allocation, and no
    /// register access beyond those of [`Channel::poll`].
    ///
    /// # Errors
    ///
    /// As [`Channel::poll`], after all data that arrived before the error was returned; [`ReceiveError::NoMetadata`].
    pub fn poll(&mut self) -> Result<Option<Received>, ReceiveError> {
        let Some(ticket) = self.oldest()? else { return Ok(None) };
        match self.channel.poll(ticket) {
            Ok(Poll::Pending) => Ok(None),
            Ok(Poll::Ready) => self.dequeue().map(Some),
            Err(error) => Err(self.after_failure(error)),
        }
    }

    /// Waits for the next buffer that the engine fills, as [`Channel::wait`] does.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll); [`WaitError::Deadline`] if no buffer was completed within `limit`. Nothing is lost then: a
    /// packet that arrived in part still completes. [`ReceiveError::NoBuffers`] if the engine has no buffer, so nothing can
    /// arrive.
    pub fn wait(&mut self, limit: Duration) -> Result<Received, ReceiveError> {
        let ticket = self.oldest()?.ok_or(ReceiveError::NoBuffers)?;
        match self.channel.wait(ticket, limit) {
            Ok(()) => self.dequeue(),
            Err(error) => Err(self.after_failure(error)),
        }
    }

    /// Finds errors that the engine does not report in memory, as [`wait`](Self::wait) does.
    pub(crate) fn check(&mut self) -> Result<(), ReceiveError> {
        self.channel.check().map_err(|error| self.after_failure(WaitError::Engine(error)))
    }

    /// As [`wait`](Self::wait), but returns `None` if no buffer was completed within `limit`.
    pub(crate) fn wait_slice(&mut self, limit: Duration) -> Result<Option<Received>, ReceiveError> {
        let ticket = self.oldest()?.ok_or(ReceiveError::NoBuffers)?;
        match self.channel.wait_slice(ticket, limit) {
            Ok(Poll::Ready) => self.dequeue().map(Some),
            Ok(Poll::Pending) => Ok(None),
            Err(error) => Err(self.after_failure(error)),
        }
    }

    /// Returns the oldest posted buffer, which is filled.
    pub(crate) fn dequeue(&mut self) -> Result<Received, ReceiveError> {
        let number = self.buffers.dequeue().ok_or(ReceiveError::NoBuffers)?;
        let buffer = &self.receive_buffers[number];
        let (status, len) = (buffer.words.load(0), buffer.words.load(1));
        if status >> 16 != MAGIC || u64::from(len) > buffer.memory.byte_len() {
            self.buffers.recycle(number);
            let snapshot = Box::new(self.channel.snapshot()?);
            return Err(ReceiveError::NoMetadata {
                channel: self.channel.index(),
                status,
                length: len,
                snapshot,
            });
        }
        self.count_starved();
        self.channel.counters.add(Count::Bytes, len.into());
        Ok(Received { receiver: self.channel.id, buffer: number, len, ends: status & EOP != 0 })
    }

    /// Counts the times at which the engine has filled all posted buffers and none is free, so that the stream is held back
    /// until the program recycles one.
    fn count_starved(&mut self) {
        let posted = self.channel.queue.next();
        if self.channel.in_flight() == 0 && self.buffers.none_free() && self.starved != posted {
            self.starved = posted;
            self.channel.counters.add(Count::Starved, 1);
        }
    }

    #[cold]
    pub(crate) fn after_failure(&mut self, error: impl Into<ReceiveError>) -> ReceiveError {
        self.reclaim();
        error.into()
    }

    /// Frees the posted buffers that were not filled, if the engine is known to be done with them.
    fn reclaim(&mut self) {
        if self.channel.in_flight() == 0 {
            let channel = &mut self.channel;
            self.buffers.reclaim(|ticket| channel.poll(ticket).is_err());
        }
    }

    /// Copies data from a buffer, from byte `offset` on.
    ///
    /// # Errors
    ///
    /// `data` is longer than the received data after `offset`, or the buffer belongs to another receiver.
    pub fn read(&self, received: &Received, offset: usize, data: &mut [u8]) -> Result<(), BufferError> {
        let buffer = self.receive_buffer(received)?;
        let (start, len) = (offset as u64, u64::from(received.len));
        let end = start.saturating_add(data.len() as u64);
        if end > len {
            return Err(MemoryError::OutOfRange { start, end, len }.into());
        }
        Ok(buffer.memory.read(start, data)?)
    }

    fn receive_buffer(&self, received: &Received) -> Result<&ReceiveBuffer, BufferError> {
        if received.receiver == self.channel.id {
            Ok(&self.receive_buffers[received.buffer])
        } else {
            Err(BufferError::ForeignBuffer)
        }
    }

    /// Posts a buffer to the engine again.
    ///
    /// # Errors
    ///
    /// The buffer belongs to another receiver; the channel failed, or was stopped. In the last two cases the buffer is free
    /// nevertheless.
    pub fn recycle(&mut self, received: Received) -> Result<(), BufferError> {
        self.receive_buffer(&received)?;
        Ok(self.refill(received)?)
    }

    fn refill(&mut self, received: Received) -> Result<(), EngineError> {
        self.buffers.recycle(received.buffer);
        self.post_buffers()
    }

    /// Returns the channel, for inspection.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Stops the engine. Data in completed buffers can still be received; a packet that arrived in part is lost.
    /// [`recover`](Self::recover) starts the engine again.
    ///
    /// # Errors
    ///
    /// As [`Channel::stop`]; see the [module](super) for engines that wait for the stream.
    pub fn stop(&mut self) -> Result<(), EngineError> {
        self.stopped = true;
        let stopped = self.channel.stop();
        self.reclaim();
        stopped
    }

    /// Makes a channel that failed or was stopped receive again. Data in completed buffers can still be received.
    ///
    /// # Errors
    ///
    /// As [`Channel::recover`].
    pub fn recover(&mut self) -> Result<(), EngineError> {
        self.recover_with(&mut || {})
    }

    /// As [`recover`](Self::recover), but calls `help` repeatedly while the engine is busy. Use it to make the user logic end
    /// its packet.
    ///
    /// # Errors
    ///
    /// As [`Channel::recover_with`].
    pub fn recover_with(&mut self, help: &mut dyn FnMut()) -> Result<(), EngineError> {
        let recovered = self.channel.recover_with(help);
        self.reclaim();
        recovered?;
        self.stopped = false;
        self.post_buffers()
    }

    /// Closes the channel. Data that was not received is lost.
    ///
    /// # Errors
    ///
    /// As [`Channel::close`]; see the [module](super) for engines that wait for the stream.
    pub fn close(self) -> Result<(), CloseError> {
        self.channel.close()
    }
}
