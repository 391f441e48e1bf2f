//! Packets from the card.

use super::MAX_BUFFERS;
use super::buffers::Buffers;
use crate::channel::completion::Poll;
use crate::channel::error::EngineError;
use crate::channel::handle::{Channel, Ticket};
use crate::channel::options::ChannelOptions;
use crate::channel::place::Place;
use crate::channel::report::METADATA_STRIDE;
use crate::descriptor::MAX_LENGTH;
use crate::memory::{Access, Buffer, DmaMemory, DmaSpace, MemoryError, Words};
use crate::regs::Direction;
use crate::stats::Count;
use std::time::{Duration, Instant};

/// What opens a buffer's metadata (PG195, "C2H Stream Writeback").
const MAGIC: u32 = 0x52b4;
/// The packet ends with what the buffer holds.
const EOP: u32 = 1;
/// The engine takes lengths of whole beats only.
const BEAT: u32 = 64;
/// How many buffers the engine has at most while old data is dropped.
const DISCARD_AHEAD: usize = 4;

/// How a stream is to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// How the channel is set up. Its slots are as many as there are buffers.
    pub channel: ChannelOptions,
    /// Buffers, 1 to [`MAX_BUFFERS`].
    pub buffers: usize,
    /// Bytes of each, a multiple of 64.
    pub bytes: u32,
    /// How many the engine has at most; see [`Receiver::set_ahead`].
    pub ahead: usize,
    /// Drop what the stream holds already, of a program that ended before it received everything. By default nothing is dropped,
    /// since a stream may be live, and everything that arrives belongs to the program that opens it.
    pub discard: Option<Discard>,
}

/// How old data is dropped when a stream is opened; see [`Receiver::discarded`].
///
/// What arrives is dropped until nothing has arrived for some time. A packet that is under way meanwhile is cut: its beginning
/// is dropped, and its end is received as if it were a packet. Buffers hold 64 bytes while data is dropped, so that of a packet
/// without an end no more is left than a beat that is not full; that rest joins the packet that comes next. The first packet afterwards
/// may come in some buffers of 64 bytes too.
///
/// With [`ReceiverOptions::ahead`] 0 the engine has no buffer, and nothing is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// How long nothing has to arrive.
    pub quiet: Duration,
    /// How long that may take in all. What arrives later is received.
    pub limit: Duration,
}

impl Default for Discard {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(100), limit: Duration::from_secs(5) }
    }
}

/// What was dropped when a stream was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Bytes.
    pub bytes: u64,
    /// Ends of packets among them.
    pub packets: u64,
    /// The [limit](Discard::limit) was reached before the stream was quiet: more may follow.
    pub more: bool,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        let channel = ChannelOptions::default();
        Self { channel, buffers: 64, bytes: 64 << 10, ahead: MAX_BUFFERS, discard: None }
    }
}

/// A buffer that the engine has filled. It is a number: [`Receiver::read`] copies what it holds, and
/// [`Receiver::give_back`] lets the engine fill it again. One that is dropped is not filled again until the channel is closed.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is one less to receive with"]
pub struct Received {
    receiver: u64,
    buffer: usize,
    len: u32,
    ends: bool,
}

impl Received {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a packet ends with it. If not, the packet goes on in the next.
    pub fn ends_packet(&self) -> bool {
        self.ends
    }
}

/// A C2H stream channel, owned, with the buffers that it fills. See the [module](super).
#[derive(Debug)]
pub struct Receiver {
    pub(crate) channel: Channel,
    landings: Box<[Landing]>,
    buffers: Buffers<Ticket>,
    stopped: bool,
    /// How many the engine had got when it last had none left to fill.
    starved: u64,
    /// Bytes of a buffer that the engine gets.
    bytes: u64,
    discarded: Discarded,
}

/// A buffer, and where the engine says what is in it.
#[derive(Debug)]
struct Landing {
    memory: Buffer,
    /// Device address of the metadata.
    metadata: u64,
    /// Status and length.
    words: Words<2>,
}

impl Landing {
    fn new(space: &DmaSpace, area: &Buffer, number: usize, bytes: u32) -> Result<Self, EngineError> {
        let memory = space.allocate(bytes.into(), Access::CardWrites)?;
        if !memory.is_contiguous() {
            return Err(EngineError::ScatteredBuffer { bytes, page: memory.page() });
        }
        let at = METADATA_STRIDE * number as u64;
        Ok(Self { memory, metadata: area.address() + at, words: area.words(at)? })
    }

    /// Forgets what was in it.
    fn clear(&self) {
        self.words.store(0, 0);
        self.words.store(1, 0);
    }
}

impl Receiver {
    /// Takes a channel over: stops it, sets it up, and lets the engine fill the buffers.
    ///
    /// # Errors
    ///
    /// As [`Channel::open`]; [`EngineError::NotStream`], [`EngineError::BadBuffers`], [`EngineError::ScatteredBuffer`]. With
    /// [`ReceiverOptions::discard`] as [`wait`](Self::wait) too.
    ///
    /// # Safety
    ///
    /// As [`Channel::open`].
    pub unsafe fn open(place: Place, options: ReceiverOptions) -> Result<Self, EngineError> {
        let ReceiverOptions { channel, buffers, bytes, ahead, discard } = options;
        if !(1..=MAX_BUFFERS).contains(&buffers)
            || !(1..=MAX_LENGTH).contains(&bytes)
            || !bytes.is_multiple_of(BEAT)
        {
            return Err(EngineError::BadBuffers { buffers, bytes });
        }
        let place = Place { direction: Direction::C2H, ..place };
        let channel = Channel::open_kind(place, ChannelOptions { slots: buffers, ..channel }, true)?;
        let area = channel.engine.progress.report.metadata(&channel.space)?;
        let landings = (0..buffers).map(|number| Landing::new(&channel.space, area, number, bytes));
        let landings = landings.collect::<Result<_, _>>()?;
        let (buffers, discarded) = (Buffers::new(buffers), Discarded::default());
        let bytes = bytes.into();
        let mut this = Self { channel, landings, buffers, stopped: false, starved: 0, bytes, discarded };
        if let Some(discard) = discard
            && ahead > 0
        {
            this.discard(discard, ahead)?;
        }
        this.set_ahead(ahead)?;
        Ok(this)
    }

    /// Drops what arrives, through short buffers, no more of which are out than `ahead`: the engine gives none back unfilled.
    fn discard(&mut self, options: Discard, ahead: usize) -> Result<(), EngineError> {
        let (begin, bytes) = (Instant::now(), std::mem::replace(&mut self.bytes, BEAT.into()));
        self.set_ahead(ahead.min(DISCARD_AHEAD))?;
        loop {
            let left = options.limit.saturating_sub(begin.elapsed());
            let received = match self.wait(options.quiet.min(left)) {
                Ok(received) => received,
                Err(EngineError::Deadline { .. }) => {
                    self.discarded.more = left < options.quiet;
                    break;
                }
                Err(error) => return Err(error),
            };
            self.discarded.bytes += u64::from(received.len);
            self.discarded.packets += u64::from(received.ends);
            self.give_back(received)?;
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
                "old data of the stream dropped"
            );
        }
        Ok(())
    }

    /// What was dropped when the stream was opened; nothing without [`ReceiverOptions::discard`].
    pub fn discarded(&self) -> Discarded {
        self.discarded
    }

    /// Lets the engine have `most` buffers at a time from now on, as far as there are so many free. With fewer it is back-pressured
    /// sooner; with none it becomes idle once it has filled those that it has.
    ///
    /// # Errors
    ///
    /// The channel failed, or was stopped.
    pub fn set_ahead(&mut self, most: usize) -> Result<(), EngineError> {
        self.buffers.set_ahead(most);
        self.fill()
    }

    /// How many buffers the engine has at most.
    pub fn ahead(&self) -> usize {
        self.buffers.ahead()
    }

    /// Gives the engine the buffers that it may have.
    fn fill(&mut self) -> Result<(), EngineError> {
        while let Some(number) = self.buffers.next() {
            if self.stopped {
                return Err(EngineError::Stopped);
            }
            let landing = &self.landings[number];
            landing.clear();
            let piece = landing.memory.piece(0..self.bytes).ok_or(MemoryError::Empty)?;
            let ticket = self.channel.submit_landing(&piece, landing.metadata)?;
            self.buffers.post(ticket);
        }
        Ok(())
    }

    /// The oldest transfer of the engine; `None` if it has no buffer.
    pub(crate) fn oldest(&mut self) -> Result<Option<Ticket>, EngineError> {
        let filled = self.fill();
        match self.buffers.oldest() {
            // What arrived before a failure is handed out before it is told.
            Some(ticket) => Ok(Some(ticket)),
            None => filled.map(|()| None),
        }
    }

    /// The next buffer that the engine has filled, if there is one: no system call, no lock, no allocation, and a register
    /// only as [`Channel::poll`] does.
    ///
    /// # Errors
    ///
    /// As [`Channel::poll`], once everything that arrived before was handed out; [`EngineError::NoMetadata`].
    pub fn poll(&mut self) -> Result<Option<Received>, EngineError> {
        let Some(ticket) = self.oldest()? else { return Ok(None) };
        match self.channel.poll(ticket) {
            Ok(Poll::Pending) => Ok(None),
            Ok(Poll::Ready) => self.take().map(Some),
            Err(error) => Err(self.lose(error)),
        }
    }

    /// Waits for the next buffer that the engine fills, as [`Channel::wait`] does.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll); [`EngineError::Deadline`] when nothing came within `limit`, which is harmless: a packet that came in
    /// part still comes. [`EngineError::NoBuffers`] when nothing can come.
    pub fn wait(&mut self, limit: Duration) -> Result<Received, EngineError> {
        let ticket = self.oldest()?.ok_or(EngineError::NoBuffers)?;
        match self.channel.wait(ticket, limit) {
            Ok(()) => self.take(),
            Err(error) => Err(self.lose(error)),
        }
    }

    /// Hands out the oldest buffer of the engine, which is filled.
    pub(crate) fn take(&mut self) -> Result<Received, EngineError> {
        let number = self.buffers.take().ok_or(EngineError::NoBuffers)?;
        let landing = &self.landings[number];
        let (status, len) = (landing.words.load(0), landing.words.load(1));
        if status >> 16 != MAGIC || u64::from(len) > landing.memory.byte_len() {
            self.buffers.give_back(number);
            let snapshot = Box::new(self.channel.snapshot()?);
            return Err(EngineError::NoMetadata {
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

    /// The engine that has filled all that it got, and would get more if there were any, holds the stream back until the program
    /// gives a buffer back.
    fn count_starved(&mut self) {
        let given = self.channel.queue.next();
        if self.channel.in_flight() == 0 && self.buffers.is_used_up() && self.starved != given {
            self.starved = given;
            self.channel.counters.add(Count::Starved, 1);
        }
    }

    #[cold]
    pub(crate) fn lose(&mut self, error: EngineError) -> EngineError {
        self.reclaim();
        error
    }

    /// Takes back the buffers whose filling was lost, if the engine is known to be done with them.
    fn reclaim(&mut self) {
        if self.channel.in_flight() == 0 {
            let channel = &mut self.channel;
            self.buffers.reclaim(|ticket| channel.poll(ticket).is_err());
        }
    }

    /// Copies what a buffer holds, from byte `offset` on.
    ///
    /// # Errors
    ///
    /// More than it holds was asked for, or it is another receiver's.
    pub fn read(&self, received: &Received, offset: usize, data: &mut [u8]) -> Result<(), EngineError> {
        let landing = self.landing(received)?;
        let (start, len) = (offset as u64, u64::from(received.len));
        let end = start.saturating_add(data.len() as u64);
        if end > len {
            return Err(MemoryError::OutOfRange { start, end, len }.into());
        }
        Ok(landing.memory.read(start, data)?)
    }

    fn landing(&self, received: &Received) -> Result<&Landing, EngineError> {
        if received.receiver == self.channel.id {
            Ok(&self.landings[received.buffer])
        } else {
            Err(EngineError::ForeignTicket)
        }
    }

    /// Lets the engine fill a buffer again.
    ///
    /// # Errors
    ///
    /// It is another receiver's. The channel failed, or was stopped: the buffer is free again all the same.
    pub fn give_back(&mut self, received: Received) -> Result<(), EngineError> {
        self.landing(&received)?;
        self.buffers.give_back(received.buffer);
        self.fill()
    }

    /// The channel, to look at.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Stops the engine. What had arrived can still be had; a packet that arrived in part is lost. [`recover`](Self::recover) starts it
    /// again.
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

    /// Makes a channel that failed or was stopped receive again. What had arrived can still be had.
    ///
    /// # Errors
    ///
    /// As [`Channel::recover`].
    pub fn recover(&mut self) -> Result<(), EngineError> {
        self.recover_with(&mut || Ok(()))
    }

    /// As [`recover`](Self::recover), calling `help` as long as the engine is busy: user logic can be told to end its packet.
    ///
    /// # Errors
    ///
    /// As [`Channel::recover_with`].
    pub fn recover_with(
        &mut self,
        help: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let recovered = self.channel.recover_with(help);
        self.reclaim();
        recovered?;
        self.stopped = false;
        self.fill()
    }

    /// Closes the channel. What was not taken is lost.
    ///
    /// # Errors
    ///
    /// As [`Channel::close`]; see the [module](super) for engines that wait for the stream.
    pub fn close(self) -> Result<(), EngineError> {
        self.channel.close()
    }
}
