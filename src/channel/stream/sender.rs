//! Sending packets to the card.

use crate::channel::context::ChannelContext;
use crate::channel::error::{CloseError, OpenError, SubmitError};
use crate::channel::handle::{Channel, Ticket};
use crate::channel::options::ChannelOptions;
use crate::memory::DmaMemory;
use crate::regs::Direction;
use std::ops::{Deref, DerefMut, Range};

/// An H2C stream channel. See the [module](super).
///
/// It dereferences to a [`Channel`] for everything but sending: polling, waiting, stopping, recovering. A finished transfer was
/// accepted by the stream. After [`stop`](Channel::stop) the current packet has no end, and the user logic must be told to
/// discard it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::{sync::Arc, time::Duration};
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Loopback};
/// use xdma::channel::ChannelOptions;
/// use xdma::regs::Direction;
///
/// # let streams = EmulatorOptions::default().with_streams();
/// # let card = xdma_emulated_card::start(streams, Arc::new(Loopback::new()), CardOptions::default())?;
/// let mut sender = card.stream_h2c(0, ChannelOptions::default())?;
/// let mut memory = card.allocate(128, Direction::H2C)?;
/// memory.write(0, &[7u8; 100])?;
/// sender.send_part(&memory, 0..64)?; // the first part of a packet,
/// let ticket = sender.send(&memory, 64..100)?; // and its end
/// sender.wait(ticket, Duration::from_secs(5))?;
/// sender.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sender {
    channel: Channel,
}

impl Sender {
    /// Opens a stream for sending: stops the channel and sets it up.
    ///
    /// # Safety
    ///
    /// As [`Channel::open`].
    pub(crate) unsafe fn open(context: ChannelContext, options: ChannelOptions) -> Result<Self, OpenError> {
        let context = ChannelContext { direction: Direction::H2C, ..context };
        Ok(Self { channel: Channel::open_kind(context, options, true)? })
    }

    /// Sends `range` of `memory`, in bytes, as a packet or as the end of one.
    ///
    /// The card uses the memory until the transfer is finished.
    ///
    /// # Errors
    ///
    /// As [`Channel::submit`].
    pub fn send(&mut self, memory: &impl DmaMemory, range: Range<u64>) -> Result<Ticket, SubmitError> {
        self.channel.send(memory, range, true)
    }

    /// Sends `range` of `memory`, in bytes, as a part of a packet that continues with the next transfer. The engine starts each
    /// part with a new beat: to avoid partial beats inside a packet, make the length of each part but the last a multiple of 64
    /// bytes.
    ///
    /// # Errors
    ///
    /// As [`Channel::submit`].
    pub fn send_part(&mut self, memory: &impl DmaMemory, range: Range<u64>) -> Result<Ticket, SubmitError> {
        self.channel.send(memory, range, false)
    }

    /// Returns the channel, for callers that keep all channels in one type.
    pub(crate) fn into_channel(self) -> Channel {
        self.channel
    }

    /// Closes the channel.
    ///
    /// # Errors
    ///
    /// As [`Channel::close`].
    pub fn close(self) -> Result<(), CloseError> {
        self.channel.close()
    }
}

impl Channel {
    /// Sends `range` of `memory`, in bytes, on a stream channel; `ends` is whether a packet ends with it.
    pub(crate) fn send(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        ends: bool,
    ) -> Result<Ticket, SubmitError> {
        self.engine.slots.set_ends_packet(ends);
        // A stream has no card addresses.
        let submitted = self.submit(memory, range, 0);
        // Everything that is not submitted by this function is a whole packet.
        self.engine.slots.set_ends_packet(true);
        submitted
    }
}

impl Deref for Sender {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl DerefMut for Sender {
    fn deref_mut(&mut self) -> &mut Channel {
        &mut self.channel
    }
}
