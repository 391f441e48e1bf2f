//! Channel statistics, which other processes of the same user can read.

pub(crate) mod channel;
mod page;

pub(crate) use channel::Counters;
pub(crate) use channel::{Count, ErrorKind, LatencySampler};
pub use channel::{Errors, Latencies, Stats};
pub(crate) use page::{CLIENT_WORDS, Page};
pub use page::{ChannelReading, PageError, Reader};
