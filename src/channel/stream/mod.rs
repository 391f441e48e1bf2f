//! AXI-Stream channels: packets to the card and from it.
//!
//! A [`Sender`] has an H2C stream channel: each packet is one or more descriptors, the last with EOP, which becomes TLAST. A
//! [`Receiver`] has a C2H stream channel: the engine fills buffer after buffer and says of each how much it holds and whether
//! that ends a packet. A packet longer than a buffer goes on in the next; a shorter one ends its buffer early.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//! use xdma::card::{Card, CardOptions};
//! use xdma_emulator::{Options, logic::Loopback};
//! use xdma::channel::{ChannelOptions, stream::ReceiverOptions};
//! use xdma::regs::Direction;
//!
//! let streams = Options { stream: true, ..Options::default() }; // and what is sent comes back
//! let card = xdma_emulated_card::start(streams, Arc::new(Loopback::new()), CardOptions::default())?;
//! let limit = Duration::from_secs(5);
//! let mut sender = card.stream_h2c(0, ChannelOptions::default())?;
//! let mut packet = card.allocate(1000, Direction::H2C)?;
//! packet.write(0, &[7u8; 1000])?;
//! let ticket = sender.send(&packet, 0..1000)?;
//!
//! // Four buffers of 512 bytes: the packet needs two, and the engine gets no more, as no other comes.
//! let ring = ReceiverOptions { buffers: 4, bytes: 512, ahead: 2, ..ReceiverOptions::default() };
//! let mut receiver = card.stream_c2h(0, ring)?;
//! receiver.set_ahead(0)?;
//! let (first, last) = (receiver.wait(limit)?, receiver.wait(limit)?);
//! assert_eq!((first.len(), first.ends_packet(), last.len(), last.ends_packet()), (512, false, 488, true));
//! let mut bytes = [0; 488];
//! receiver.read(&last, 0, &mut bytes)?;
//! assert_eq!(bytes, [7; 488]);
//! receiver.give_back(first)?; // from here on the engine could fill it again
//! sender.wait(ticket, limit)?;
//! receiver.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Nothing is lost
//!
//! The engine takes from the stream only what it has a buffer for. Each buffer that is given back is one more credit; while the
//! program keeps them all the engine has none, and the stream waits on the card. Over the chain ring, for cores without credits,
//! the engine has one buffer at a time and the next poll gives it another.
//!
//! # What an earlier program left
//!
//! A stream outlives the program that had it. One that was killed leaves packets on the card, perhaps without their end, and the
//! next program would receive them first. [`ReceiverOptions::discard`] drops them. It is off by default, since a stream may be live.
//!
//! # How stale metadata is told from new
//!
//! Metadata (PG195, "C2H Stream Writeback") says nothing about when it was written, so it is never polled. What is polled
//! is the count of completed descriptors, by the rules of the [engine](super). The card writes a buffer's data, then its
//! metadata, then the count, all posted, and posted writes of one function arrive in order: once the count has passed a
//! buffer its metadata is that of this filling. One that did not arrive at all (an IOMMU that refused it) would leave that of the filling
//! before, so both words are zeroed before the engine gets the buffer, and zero has no magic number. Metadata that is
//! late when its channel is closed goes to memory that stays the card's ([`WriteBackArea`](super::WriteBackArea)); should the
//! channel be opened again, it arrives before everything that the engine writes from then on.
//!
//! # Stopping
//!
//! PG195 does not say whether an engine that waits for the stream becomes idle when it is stopped, and there are reports that it does not.
//! It does become idle by itself when it has no buffer. So whoever knows how many packets will come lets the engine
//! have no more buffers than that ([`Receiver::set_ahead`]); whoever does not has the user logic end its packet while the engine is
//! stopped ([`Receiver::recover_with`]), or resets the card. Otherwise the channel is closed as one that hangs: after the card's
//! idle limit, and with its buffers kept for the life of the process.

mod buffers;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use receiver::{Discard, Discarded, Received, Receiver, ReceiverOptions};
pub use sender::Sender;

use crate::memory::MAX_JOBS;

/// Most buffers of a [`Receiver`].
pub const MAX_BUFFERS: usize = MAX_JOBS;
