use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong between this process and a PCI function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// What the kernel says of the function cannot be read.
    #[error(transparent)]
    Sysfs(#[from] super::sysfs::SysfsError),
    /// There is no such socket or device.
    #[error("no card at {}: {source}; start one with `xdma emulate --socket {}`, or check the path", path.display(), path.display())]
    NotFound {
        /// What was looked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// This user may not open it.
    #[error("no permission for {}: {source}; run as the user that started the card, or change the socket's owner", path.display())]
    Permission {
        /// What was opened.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is there, but nothing that speaks vfio-user listens.
    #[error("{} is not a vfio-user card: {reason}", path.display())]
    NotACard {
        /// What was opened.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// Another client has it.
    #[error("the card at {} is taken: {reason}; a card serves one client, end the other one first", path.display())]
    Taken {
        /// What was opened.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// No answer in time. The link is of no use any more.
    #[error(
        "the card's process did not answer {what} within {after:?}; it hangs, or this machine is overloaded"
    )]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The card's process or the device is gone.
    #[error("the card is gone: {reason}; close it, and open it again when it is back")]
    Gone {
        /// How it shows.
        reason: String,
    },
    /// The card's process answered something that the protocol does not allow.
    #[error("protocol error in the answer to {what}: {reason}")]
    Protocol {
        /// What was asked.
        what: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The request was refused.
    #[error("{what} was refused: {source}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The error that was answered.
        source: io::Error,
    },
    /// The function has no such BAR.
    #[error("the function has no BAR {0}")]
    NoBar(usize),
    /// A register offset is unaligned or outside its BAR.
    #[error("register offset {offset:#x} is no multiple of 4 inside a BAR of {size:#x} bytes")]
    BadOffset {
        /// The offset.
        offset: u64,
        /// Bytes of the BAR.
        size: u64,
    },
}
