//! Packets to the card.

use crate::channel::completion::Poll;
use crate::channel::error::EngineError;
use crate::channel::handle::{Channel, Ticket};
use crate::channel::options::ChannelOptions;
use crate::channel::place::Place;
use crate::memory::DmaMemory;
use crate::regs::Direction;
use std::ops::Range;
use std::time::Duration;

/// An H2C stream channel, owned. See the [module](super).
#[derive(Debug)]
pub struct Sender {
    pub(crate) channel: Channel,
}

impl Sender {
    /// Takes a channel over: stops it, and sets it up.
    ///
    /// # Errors
    ///
    /// As [`Channel::open`]; [`EngineError::NotStream`].
    ///
    /// # Safety
    ///
    /// As [`Channel::open`].
    pub unsafe fn open(place: Place, options: ChannelOptions) -> Result<Self, EngineError> {
        let place = Place { direction: Direction::H2C, ..place };
        Ok(Self { channel: Channel::open_kind(place, options, true)? })
    }

    /// Sends `range` of `memory`, in bytes, as a packet or as the end of one.
    ///
    /// The memory is the card's until the ticket is done.
    ///
    /// # Errors
    ///
    /// As [`Channel::submit`].
    pub fn send(&mut self, memory: &impl DmaMemory, range: Range<u64>) -> Result<Ticket, EngineError> {
        self.submit(memory, range, true)
    }

    /// Sends `range` of `memory`, in bytes, as a part of a packet that goes on with what is sent next. The engine starts each
    /// part with a new beat: where the bus is not to be left half empty inside a packet, parts are multiples of 64 bytes.
    ///
    /// # Errors
    ///
    /// As [`Channel::submit`].
    pub fn send_part(&mut self, memory: &impl DmaMemory, range: Range<u64>) -> Result<Ticket, EngineError> {
        self.submit(memory, range, false)
    }

    fn submit(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        ends: bool,
    ) -> Result<Ticket, EngineError> {
        self.channel.engine.slots.set_ends_packet(ends);
        // A stream has no card address.
        self.channel.submit(memory, range, 0)
    }

    /// As [`Channel::poll`]. What is finished was taken by the stream.
    ///
    /// # Errors
    ///
    /// As [`Channel::poll`].
    pub fn poll(&mut self, ticket: Ticket) -> Result<Poll, EngineError> {
        self.channel.poll(ticket)
    }

    /// As [`Channel::wait`].
    ///
    /// # Errors
    ///
    /// As [`Channel::wait`]; [`EngineError::Deadline`] also when the stream takes nothing for so long.
    pub fn wait(&mut self, ticket: Ticket, limit: Duration) -> Result<(), EngineError> {
        self.channel.wait(ticket, limit)
    }

    /// The channel, to look at.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// As [`Channel::stop`]. A packet may end without its EOP, in the middle.
    ///
    /// # Errors
    ///
    /// As [`Channel::stop`].
    pub fn stop(&mut self) -> Result<(), EngineError> {
        self.channel.stop()
    }

    /// As [`Channel::recover`]. The user logic has to be told that the packet which was under way never ends.
    ///
    /// # Errors
    ///
    /// As [`Channel::recover`].
    pub fn recover(&mut self) -> Result<(), EngineError> {
        self.channel.recover()
    }

    /// As [`Channel::recover_with`].
    ///
    /// # Errors
    ///
    /// As [`Channel::recover_with`].
    pub fn recover_with(
        &mut self,
        help: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.channel.recover_with(help)
    }

    /// As [`Channel::close`].
    ///
    /// # Errors
    ///
    /// As [`Channel::close`].
    pub fn close(self) -> Result<(), EngineError> {
        self.channel.close()
    }
}
