//! AXI-Stream channels, which send and receive packets.
//!
//! A [`Sender`] owns an H2C stream channel. Each packet is one or more descriptors, the last with EOP, which becomes TLAST. A
//! [`Receiver`] owns a C2H stream channel. The engine fills one buffer after the other, and reports for each how many bytes it
//! holds and whether it ends a packet. A packet longer than a buffer continues in the next one; a shorter packet ends its
//! buffer early.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//! use xdma::card::{Card, CardOptions};
//! use xdma_emulator::{EmulatorOptions, logic::Loopback};
//! use xdma::channel::{ChannelOptions, stream::ReceiverOptions};
//! use xdma::regs::Direction;
//!
//! let streams = EmulatorOptions::default().with_streams(); // the user logic sends back what it receives
//! let card = xdma_emulated_card::start(streams, Arc::new(Loopback::new()), CardOptions::default())?;
//! let limit = Duration::from_secs(5);
//! let mut sender = card.stream_h2c(0, ChannelOptions::default())?;
//! let mut packet = card.allocate(1000, Direction::H2C)?;
//! packet.write(0, &[7u8; 1000])?;
//! let ticket = sender.send(&packet, 0..1000)?;
//!
//! // Four buffers of 512 bytes. The packet needs two, and no other packet follows, so no more than two are posted.
//! let ring = ReceiverOptions { buffers: 4, bytes: 512, max_posted: 2, ..ReceiverOptions::default() };
//! let mut receiver = card.stream_c2h(0, ring)?;
//! receiver.set_max_posted(0)?;
//! let (first, last) = (receiver.wait(limit)?, receiver.wait(limit)?);
//! assert_eq!((first.len(), first.ends_packet(), last.len(), last.ends_packet()), (512, false, 488, true));
//! let mut bytes = [0; 488];
//! receiver.read(&last, 0, &mut bytes)?;
//! assert_eq!(bytes, [7; 488]);
//! receiver.recycle(first)?; // the engine could fill it again
//! sender.wait(ticket, limit)?;
//! receiver.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Nothing is lost
//!
//! The engine accepts only as much stream data as it has buffers for. Recycling a buffer posts one more credit; while the
//! program holds all buffers, the engine has none, and the card back-pressures the stream. On the chain ring, for cores without
//! credits, the engine has one buffer at a time, and the next poll posts another.
//!
//! # Data left by an earlier process
//!
//! A stream outlives the process that uses it. If a program is killed, packets remain on the card, perhaps without their end,
//! and the next program receives them first. [`ReceiverOptions::discard`] drops them. It is off by default, because the stream
//! may be live.
//!
//! # How stale metadata is detected
//!
//! Metadata (PG195, "C2H Stream Writeback") does not show when it was written, so the driver never polls it. It polls the count
//! of completed descriptors, by the rules in the [parent module](super). The card writes a buffer's data, then its metadata,
//! then the count. These writes are posted, and posted writes of one function arrive in order: once the count includes a
//! buffer, the buffer's metadata is current. If an IOMMU rejected the write of the metadata, the words would hold the previous
//! values; therefore both are zeroed before the buffer is posted, and zero is not the magic number. Metadata that
//! arrives after its channel was closed goes to memory that the card keeps ([`WriteBackArea`](super::WriteBackArea)). If the
//! channel is opened again, it arrives before everything that the engine writes from then on.
//!
//! # Stopping
//!
//! PG195 does not specify whether an engine that waits for the stream becomes idle when it is stopped, and there are reports
//! that it does not. It does become idle when it has no buffer. If the number of expected packets is known, post no more
//! buffers than that ([`Receiver::set_max_posted`]). Otherwise let the user logic end its packet while the engine is stopped
//! ([`Receiver::recover_with`]), or reset the card. Without any of these, closing the channel takes the card's idle limit, and
//! its buffers stay allocated until the process exits.

mod buffers;
mod error;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use error::{BufferError, ReceiveError};
pub use receiver::{Discard, Discarded, Received, Receiver, ReceiverOptions};
pub use sender::Sender;

use crate::memory::MAX_JOBS;

/// Maximum number of buffers of a [`Receiver`].
pub const MAX_BUFFERS: usize = MAX_JOBS;
