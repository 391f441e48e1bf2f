//! AXI-Stream channels: packets to the card and from it.
//!
//! A [`Sender`] has an H2C stream channel: each packet is one or more descriptors, the last with EOP, which becomes TLAST. A
//! [`Receiver`] has a C2H stream channel: the engine fills buffer after buffer and says of each how much it holds and whether
//! that ends a packet. A packet longer than a buffer goes on in the next; a shorter one ends its buffer early.
//!
//! # Nothing is lost
//!
//! The engine takes from the stream only what it has a buffer for. Each buffer that is given back is one more credit; while the
//! program keeps them all the engine has none, and the stream waits on the card. Over the chain ring, for cores without credits,
//! the engine has one buffer at a time and the next poll gives it another.
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

pub use receiver::{Received, Receiver, ReceiverOptions};
pub use sender::Sender;

use super::jobs::MAX_JOBS;

/// Most buffers of a [`Receiver`].
pub const MAX_BUFFERS: usize = MAX_JOBS;
/// Bytes from one buffer's metadata to the next: two words, and as far apart as the vendor's driver has them (`libxdma.h`,
/// `struct xdma_result`).
pub(super) const METADATA_STRIDE: u64 = 32;
