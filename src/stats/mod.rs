//! What channels count, and how other processes of the same user read it.

mod channel;
mod page;

pub(crate) use channel::{Count, ErrorKind, Sample};
pub use channel::{Counters, Errors, Latencies, Stats};
pub(crate) use page::{CLIENT_WORDS, Page};
pub use page::{ChannelReading, PageError, Reader};
