use super::PciAddress;
use super::sysfs::SysfsError;
use super::vfio::{Mode, UnknownMode};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong between this process and a PCI function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// There is no such socket or device.
    #[error("no card at {}: {cause}; {remedy}", path.display())]
    NotFound {
        /// What was looked for.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
        /// What to do.
        remedy: String,
    },
    /// This user may not open it.
    #[error("no permission for {}: {cause}; {remedy}", path.display())]
    Permission {
        /// What was opened.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
        /// What to do.
        remedy: String,
    },
    /// Sysfs does not have the function, or makes no sense.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// The function has another driver than `vfio-pci`, or none.
    #[error(
        "{address} is bound to {}, not to vfio-pci; bind it to vfio-pci first",
        driver.as_deref().unwrap_or("no driver")
    )]
    NotBound {
        /// The function.
        address: PciAddress,
        /// The driver that has it.
        driver: Option<String>,
    },
    /// Its IOMMU group has members that other drivers have.
    #[error(
        "{address} shares IOMMU group {group} with {}, which the kernel's drivers have; the IOMMU cannot tell them apart: unbind \
         those too, or put the card into another slot",
        members.join(", ")
    )]
    ForeignGroup {
        /// The function.
        address: PciAddress,
        /// Number of the group.
        group: u32,
        /// The other members, with their drivers.
        members: Vec<String>,
    },
    /// No way of VFIO leads to the card.
    #[error("cannot open {address} over VFIO {mode}: {reason}")]
    NoMode {
        /// The function.
        address: PciAddress,
        /// What was tried.
        mode: Mode,
        /// Why not, and what to do.
        reason: String,
    },
    /// The environment names a mode that does not exist.
    #[error("in the environment's XDMA_VFIO: {0}")]
    UnknownMode(UnknownMode),
    /// It is there, but nothing that speaks vfio-user listens.
    #[error("{} is not a vfio-user card: {reason}", path.display())]
    NotACard {
        /// What was opened.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// There is a listener, which accepts nothing.
    #[error(
        "nobody accepts connections at {} within {after:?}: its process hangs or is stopped, or many clients wait before this one; \
         look at that process, and start it again",
        path.display()
    )]
    NotAccepting {
        /// What was connected to.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
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
    #[error("{what} was refused: {cause}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The error that was answered.
        cause: io::Error,
    },
    /// The function has no such BAR.
    #[error("the function has no BAR {0}")]
    NoBar(usize),
    /// A register offset is unaligned or outside its BAR.
    #[error("register offset {offset:#x} is {}", misplaced(*offset, *size))]
    BadOffset {
        /// The offset.
        offset: u64,
        /// Bytes of the BAR.
        size: u64,
    },
}

/// What is wrong with an offset.
fn misplaced(offset: u64, size: u64) -> String {
    match offset.is_multiple_of(4) {
        true => format!("outside a BAR of {size:#x} bytes"),
        false => "no multiple of 4".into(),
    }
}

// Not a source: the text says it already, and whoever prints causes would say it twice.
impl From<UnknownMode> for BusError {
    fn from(error: UnknownMode) -> Self {
        Self::UnknownMode(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::from_raw_os_error(libc::EACCES);
        let said = cause().to_string();
        let (path, remedy) = (PathBuf::from("/dev/vfio/3"), String::from("join the group"));
        for error in [
            BusError::NotFound { path: path.clone(), cause: cause(), remedy: remedy.clone() },
            BusError::Permission { path, cause: cause(), remedy },
            BusError::Refused { what: "a map", cause: cause() },
            UnknownMode(said.clone()).into(),
        ] {
            let (mut text, mut next) = (error.to_string(), error.source());
            while let Some(error) = next {
                text = format!("{text}: {error}");
                next = error.source();
            }
            assert_eq!(text.matches(&said).count(), 1, "{text}");
        }
    }
}
