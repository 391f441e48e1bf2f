use super::usage::Use;
use std::io;
use std::path::{Path, PathBuf};
use xdma::bus::PciAddress;
use xdma::bus::sysfs::SysfsError;

/// What `vfio-setup` does not do, and why. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It needs root.
    #[error("this changes the system: run it as root (`sudo vfio-setup ...`); `plan` shows what it would do")]
    NotRoot,
    /// No card was found, and none was named.
    #[error(
        "no XDMA card is here by its identifiers; name one (`lspci -D` lists functions), or load its image first and rescan (`echo 1 > /sys/bus/pci/rescan`)"
    )]
    NoCard,
    /// Nothing known says that it is a card.
    #[error(
        "{address} ({vendor:04x}:{device:04x}) is not known to be an XDMA card; if it is one (images of AWS may have any identifiers), repeat with --any"
    )]
    UnknownCard {
        /// The function.
        address: PciAddress,
        /// Its vendor.
        vendor: u16,
        /// Its device.
        device: u16,
    },
    /// An F1 card without a design.
    #[error(
        "{0} is an F1 card without an image: load one first (`fpga-load-local-image`), which gives it other identifiers"
    )]
    NoImage(PciAddress),
    /// Bridges stay with the kernel.
    #[error("{0} is a bridge; name the card behind it")]
    Bridge(PciAddress),
    /// Somebody uses it.
    #[error("{address} is in use: {}; end that first", list(uses))]
    InUse {
        /// The function.
        address: PciAddress,
        /// By what.
        uses: Vec<Use>,
    },
    /// Its group has others in it.
    #[error(
        "IOMMU group {group} of {address} also has {}; a group has one owner: bind all of them together if they are yours, or put the card into a slot of its own (one whose bridges have ACS)",
        members.join(", ")
    )]
    ForeignMembers {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// Members with drivers of the kernel's, each with its driver.
        members: Vec<String>,
    },
    /// There is no IOMMU.
    #[error(
        "{0} is not behind an IOMMU: switch VT-d or AMD-Vi on in the firmware (and boot with `intel_iommu=on` where the kernel has it off); in a guest without one, as on EC2, --no-iommu is what remains, and trusts the card with all memory"
    )]
    NoIommu(PciAddress),
    /// There is one.
    #[error("{0} is behind an IOMMU, which is better than none: leave out --no-iommu")]
    HasIommu(PciAddress),
    /// No such user or group.
    #[error("there is no {kind} `{name}` in {file}; {remedy}")]
    NoAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// What was looked for.
        name: String,
        /// Where.
        file: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A node that others use belongs to others.
    #[error(
        "{node} belongs to user {uid}, group {gid}, which somebody set for other programs; add your user to that group, or change the node's owner by hand"
    )]
    SharedNode {
        /// The node.
        node: String,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// There are no such pages.
    #[error("this kernel has no {size} pages{place}: {remedy}")]
    NoSuchPages {
        /// Their size.
        size: &'static str,
        /// Where, if it matters.
        place: String,
        /// What to do.
        remedy: &'static str,
    },
    /// There is not so much memory.
    #[error(
        "{count} more {size} pages are {} MiB, and {} MiB of memory are available; ask for fewer",
        wanted >> 20, available >> 20
    )]
    TooManyPages {
        /// Pages more than there are.
        count: u64,
        /// Their size.
        size: &'static str,
        /// Their bytes.
        wanted: u64,
        /// Bytes that are available.
        available: u64,
    },
    /// A file that `persist` would write is somebody else's.
    #[error("{0} was not written by `vfio-setup persist`, or was changed since: move it away, then repeat")]
    NotOurs(String),
    /// A directory is not safe to write to.
    #[error("{path} is {reason}: another user could change what is written there")]
    UnsafeDirectory {
        /// The directory.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// It is not done, and nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Sysfs cannot be read.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A step failed.
    #[error("{step}: {reason}{}", undone(left))]
    Failed {
        /// What was being done.
        step: String,
        /// How it failed.
        reason: String,
        /// What could not be undone; nothing if all was.
        left: Vec<String>,
    },
}

impl SetupError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// The exit code of the binary; see [`EXIT_CODES`](super::EXIT_CODES).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Sysfs(SysfsError::NoFunction { .. }) => 3,
            Self::Failed { left, .. } if !left.is_empty() => 5,
            Self::Sysfs(_) | Self::Io { .. } | Self::Failed { .. } => 1,
        }
    }
}

fn list(uses: &[Use]) -> String {
    uses.iter().map(Use::to_string).collect::<Vec<_>>().join("; ")
}

fn undone(left: &[String]) -> String {
    if left.is_empty() {
        return "; what had been done before was undone".into();
    }
    format!("; and this could not be undone: {}", left.join("; "))
}
