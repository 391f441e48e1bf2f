use super::PciAddress;
use super::sysfs::SysfsError;
use super::vfio::{Mode, UnknownMode};
use crate::Remedy;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a PCI function could not be opened or accessed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The socket or device does not exist.
    #[error("no card at {}: {cause}; {remedy}", path.display())]
    NotFound {
        /// The path that was opened.
        path: PathBuf,
        /// The kernel's error.
        cause: io::Error,
        /// How to fix it.
        remedy: String,
    },
    /// This user lacks permission to open the socket or device.
    #[error("no permission for {}: {cause}; {remedy}", path.display())]
    Permission {
        /// The path that was opened.
        path: PathBuf,
        /// The kernel's error.
        cause: io::Error,
        /// How to fix it.
        remedy: String,
    },
    /// The function is missing from sysfs, or sysfs has unexpected contents.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// The function is bound to another driver than `vfio-pci`, or to none.
    #[error(
        "{address} is bound to {}; bind it to vfio-pci first",
        driver.as_deref().unwrap_or("no driver")
    )]
    NotBound {
        /// The function.
        address: PciAddress,
        /// The driver that it is bound to.
        driver: Option<String>,
    },
    /// Other members of the function's IOMMU group are bound to kernel drivers.
    #[error(
        "{address} shares IOMMU group {group} with {}, bound to kernel drivers; the IOMMU cannot isolate the members of a group \
         from each other: unbind those as well, or move the card to another slot",
        members.join(", ")
    )]
    ForeignGroup {
        /// The function.
        address: PciAddress,
        /// The group's number.
        group: u32,
        /// The other members and their drivers.
        members: Vec<String>,
    },
    /// VFIO cannot open the card in this mode.
    #[error("cannot open {address} over VFIO {mode}: {reason}")]
    NoMode {
        /// The function.
        address: PciAddress,
        /// The mode that was tried.
        mode: Mode,
        /// The reason, and how to fix it.
        reason: String,
    },
    /// The environment variable `XDMA_VFIO` names an unknown mode.
    #[error("in the environment variable XDMA_VFIO: {0}")]
    UnknownMode(UnknownMode),
    /// The path exists, but no vfio-user server is listening on it.
    #[error("{} is not a vfio-user card: {reason}; name the socket on which a card is served", path.display())]
    NotACard {
        /// The path that was opened.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The listener did not accept the connection.
    #[error(
        "no connection was accepted at {} within {after:?}: the card's process hangs or is stopped, or many other clients are \
         waiting; check that process, and restart it if it hangs",
        path.display()
    )]
    NotAccepting {
        /// The path of the socket.
        path: PathBuf,
        /// The time limit that expired.
        after: Duration,
    },
    /// Another client is using the card.
    #[error("the card at {} is taken: {reason}; a card serves one client, end the other one first", path.display())]
    Taken {
        /// The path that was opened.
        path: PathBuf,
        /// The evidence for it.
        reason: String,
    },
    /// The reply did not arrive in time. The connection is unusable from now on.
    #[error(
        "the card's process did not reply to {what} within {after:?}; it hangs, or this machine is overloaded"
    )]
    Timeout {
        /// The request.
        what: &'static str,
        /// The time limit that expired.
        after: Duration,
    },
    /// The card's process has ended, or the device has been removed.
    #[error("the card is gone: {reason}")]
    Gone {
        /// The evidence for it, and the remedy.
        reason: String,
    },
    /// The card's process sent a reply that violates the protocol.
    #[error("protocol error in the reply to {what}: {reason}")]
    Protocol {
        /// The request.
        what: &'static str,
        /// What is wrong with the reply.
        reason: String,
    },
    /// The kernel or the card's process refused the request.
    #[error("{what} was refused: {cause}{}", if lacks_files(cause) { "; close files, or raise the limit with `ulimit -n`" } else { "" })]
    Refused {
        /// The request.
        what: &'static str,
        /// The error that was returned.
        cause: io::Error,
    },
    /// The function does not have this BAR.
    #[error("the function has no BAR {0}")]
    NoBar(usize),
    /// A register offset is unaligned or outside its BAR.
    #[error("register offset {offset:#x} is {}", offset_problem(*offset, *size))]
    BadOffset {
        /// The offset.
        offset: u64,
        /// Size of the BAR in bytes.
        size: u64,
    },
}

impl BusError {
    /// Returns the remedy for this error.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NotFound { .. }
            | Self::Permission { .. }
            | Self::Sysfs(_)
            | Self::NotBound { .. }
            | Self::ForeignGroup { .. }
            | Self::NoMode { .. }
            | Self::NotACard { .. }
            | Self::NotAccepting { .. } => Remedy::PrepareHost,
            Self::Taken { .. } => Remedy::TryAgain,
            Self::Refused { cause, .. } if cause.kind() == io::ErrorKind::WouldBlock => Remedy::TryAgain,
            Self::Timeout { .. } | Self::Gone { .. } | Self::Protocol { .. } => Remedy::Reopen,
            Self::Refused { cause, .. } if lacks_files(cause) => Remedy::PrepareHost,
            Self::Refused { .. } | Self::NoBar(_) => Remedy::Unsupported,
            Self::UnknownMode(_) | Self::BadOffset { .. } => Remedy::Correct,
        }
    }
}

/// Describes why an offset is invalid.
fn offset_problem(offset: u64, size: u64) -> String {
    match offset.is_multiple_of(4) {
        true => format!("outside a BAR of {size:#x} bytes"),
        false => "not a multiple of 4".into(),
    }
}

// Not a `source`: the text already includes it, so printing the chain of causes would repeat it.
impl From<UnknownMode> for BusError {
    fn from(error: UnknownMode) -> Self {
        Self::UnknownMode(error)
    }
}

/// Returns whether a request failed for lack of file descriptors.
fn lacks_files(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn each_cause_is_printed_once() {
        let cause = || io::Error::from_raw_os_error(libc::EACCES);
        let cause_text = cause().to_string();
        let (path, remedy) = (PathBuf::from("/dev/vfio/3"), String::from("join the group"));
        for error in [
            BusError::NotFound { path: path.clone(), cause: cause(), remedy: remedy.clone() },
            BusError::Permission { path, cause: cause(), remedy },
            BusError::Refused { what: "a map", cause: cause() },
            UnknownMode(cause_text.clone()).into(),
        ] {
            let (mut text, mut next) = (error.to_string(), error.source());
            while let Some(error) = next {
                text = format!("{text}: {error}");
                next = error.source();
            }
            assert_eq!(text.matches(&cause_text).count(), 1, "{text}");
        }
    }
}
