use super::presence::Presence;
use super::usage::Use;
use std::io;
use std::path::{Path, PathBuf};
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::SysfsError;

/// A request that `vfio-setup` refuses, with the reason. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The command needs root.
    #[error(
        "this command changes the system; run it as root, with `sudo`. `vfio-setup plan` previews the changes of `bind`, and `vfio-setup plan --unbind` those of `unbind`"
    )]
    NotRoot,
    /// No card was named, and none was found.
    #[error(
        "no XDMA card was found by its PCI IDs; name the function (`lspci -D` lists them), or load the card's image and rescan (`echo 1 | sudo tee /sys/bus/pci/rescan`)"
    )]
    NoCard,
    /// The IDs of the function are not those of a known card.
    #[error(
        "{address} ({vendor:04x}:{device:04x}) is not known to be an XDMA card; if it is one (AWS images can have any IDs), add --any"
    )]
    UnknownCard {
        /// The function.
        address: PciAddress,
        /// Vendor ID.
        vendor: u16,
        /// Device ID.
        device: u16,
    },
    /// The function is an AWS card without an image.
    #[error(
        "{0} is an AWS card without an image; load one first (`fpga-load-local-image`), which changes the card's PCI IDs"
    )]
    NoImage(PciAddress),
    /// The function is the management function of an AWS F2 card.
    #[error(
        "{0} is the management function of an AWS F2 card, which AWS's tools use and which no program drives; name the card, function 0 of the same device"
    )]
    Management(PciAddress),
    /// The function is not an AWS F2 card.
    #[error(
        "{0} is not an AWS F2 card: only those have BARs of 64 MiB, 64 KiB and 128 GiB, and deliver interrupts through BAR2"
    )]
    NotF2(PciAddress),
    /// The function is used through VFIO.
    #[error(
        "{0} is bound to vfio-pci, and programs of `xdma` set up its interrupts themselves; this command is for the kernel module `xdma` only"
    )]
    InterruptsOfVfio(PciAddress),
    /// No driver has enabled the function's interrupts.
    #[error(
        "{0} is not bound to the kernel module `xdma`, and messages that are sent before a driver has enabled MSI-X can be lost for good; load the module first (`sudo modprobe xdma`)"
    )]
    InterruptsWithoutDriver(PciAddress),
    /// BAR2 of the function has no interrupt block.
    #[error(
        "BAR2 of {0} does not have the interrupt block of F2's shell; check the image with `sudo fpga-describe-local-image -S 0 -H`, or load the module with `poll_mode=1`"
    )]
    NoShellBlock(PciAddress),
    /// The function is behind an Intel Volume Management Device.
    #[error(
        "{0} is behind Intel VMD, which presents it in a separate PCI domain and handles its interrupts and DMA, so it cannot be used \
         from user space: disable VMD for this slot in the firmware; the card then has an address in domain 0000"
    )]
    BehindVmd(PciAddress),
    /// The function does not answer as the kernel describes it.
    #[error("{address} does not work: {presence}. Remove it and find it again: {}", presence.remedy(*address).unwrap_or_default())]
    Lost {
        /// The function.
        address: PciAddress,
        /// How it answers.
        presence: Presence,
    },
    /// The function to bind at each boot does not exist, so its IDs are unknown.
    #[error(
        "there is no function {0} yet, so its PCI IDs are unknown, and --any would also bind any other function at this address: leave out --any for a card with known IDs, or run this command again when the card has appeared"
    )]
    UnknownIds(PciAddress),
    /// The function is a bridge.
    #[error("{0} is a bridge; name the card behind it")]
    Bridge(PciAddress),
    /// The function is in use.
    #[error("{address} is in use: {}; end that use first", list(uses))]
    InUse {
        /// The function.
        address: PciAddress,
        /// The uses.
        uses: Vec<Use>,
    },
    /// The IOMMU group of the function has members that are bound to kernel drivers.
    #[error(
        "IOMMU group {group} of {address} also contains {}; a group can have only one owner: bind all members together if they are yours, or move the card to a slot with its own group (one whose bridges have ACS)",
        members.join(", ")
    )]
    ForeignMembers {
        /// The function.
        address: PciAddress,
        /// The group.
        group: u32,
        /// Members that are bound to kernel drivers, each with its driver.
        members: Vec<String>,
    },
    /// The function is not behind an IOMMU.
    #[error(
        "{0} is not behind an IOMMU: enable VT-d or AMD-Vi in the firmware (and boot with `intel_iommu=on` if the kernel disables it by default). In a guest without an IOMMU, such as on EC2, the only way is --no-iommu, which lets the card access all memory"
    )]
    NoIommu(PciAddress),
    /// The function is a card of an AWS instance, and is not behind an IOMMU.
    #[error(
        "{0} is not behind an IOMMU, and AWS's virtual instances have none: add --no-iommu, the mode that AWS's own setup script for F2 uses. The card can then access all memory of this instance"
    )]
    NoIommuOnAws(PciAddress),
    /// The function is behind an IOMMU, and no-IOMMU mode was requested.
    #[error("{0} is behind an IOMMU, which protects this machine; leave out --no-iommu")]
    HasIommu(PciAddress),
    /// There is no such user or group.
    #[error("there is no {kind} `{name}` in {file}; {remedy}")]
    NoAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// The requested name.
        name: String,
        /// The file that was searched.
        file: &'static str,
        /// The remedy.
        remedy: String,
    },
    /// A shared node has an owner that was set for other programs.
    #[error(
        "{node} belongs to user {uid} and group {gid}, which were set for other programs; add your user to that group, or change the owner of the node by hand"
    )]
    SharedNode {
        /// The node.
        node: String,
        /// User ID of the node.
        uid: u32,
        /// Group ID of the node.
        gid: u32,
    },
    /// The kernel has no hugepages of this size, or the NUMA node does not exist.
    #[error("this kernel has no {size} pages{place}: {remedy}")]
    NoSuchPages {
        /// Size of the pages.
        size: &'static str,
        /// ` on node N`, or empty.
        place: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// There is not enough memory for the hugepages.
    #[error(
        "{count} more {size} pages need {} MiB, and only {} MiB of memory are available; request fewer pages",
        wanted >> 20, available >> 20
    )]
    TooManyPages {
        /// Number of additional pages.
        count: u64,
        /// Size of the pages.
        size: &'static str,
        /// Size of the additional pages in bytes.
        wanted: u64,
        /// Available memory in bytes.
        available: u64,
    },
    /// udev ignores rules for the group.
    #[error(
        "{found}. Use a system group: `{remedy}`, then add the users to it (`sudo usermod -aG` with the group and the user)"
    )]
    GroupIgnored {
        /// The problem.
        found: String,
        /// The command with another group.
        remedy: String,
    },
    /// A file that `persist` would write already exists. It was not written by `persist`, or was edited since.
    #[error(
        "{0} was not written by `vfio-setup persist`, or was edited since; move it away (`sudo mv {0} {0}.old`), then try again"
    )]
    NotOurs(String),
    /// A directory is not safe to write to.
    #[error("{path} is {reason}, so another user could change files in it")]
    UnsafeDirectory {
        /// The directory.
        path: String,
        /// The problem.
        reason: &'static str,
    },
}

/// An error of `vfio-setup`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The request was refused, and nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Sysfs cannot be read.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// A file cannot be read or written.
    #[error("{}: {source}; {}", path.display(), file_remedy(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// A step failed.
    #[error("{step}: {reason}{}", reverted(left))]
    Failed {
        /// Description of the step.
        step: String,
        /// The reason.
        reason: String,
        /// Changes that could not be reverted.
        left: Vec<String>,
    },
}

impl SetupError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Returns the exit code of the program; see [`EXIT_CODES`](super::EXIT_CODES).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Sysfs(SysfsError::NoFunction { .. }) => 3,
            Self::Failed { left, .. } if !left.is_empty() => 5,
            Self::Sysfs(_) | Self::Io { .. } | Self::Failed { .. } => 1,
        }
    }
}

/// Returns the remedy for the kernel's error about a file.
pub fn file_remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "check the path; its directory must exist",
        Kind::PermissionDenied => {
            "this user may not access it: check its permissions and those of its directory (`ls -ld`)"
        }
        Kind::IsADirectory => "name a file, not a directory",
        Kind::NotADirectory => "a part of the path is a file, not a directory: check the path",
        Kind::AlreadyExists => "choose another path",
        Kind::AddrInUse => "end the process that uses it, or choose another path",
        Kind::InvalidInput | Kind::InvalidFilename => {
            "choose another path: this one is too long, or has characters that are not allowed"
        }
        Kind::InvalidData => "name a text file",
        Kind::StorageFull | Kind::QuotaExceeded => "free some space, or use another file system",
        Kind::FileTooLarge => "check the limit (`ulimit -f`), or use another file system",
        Kind::ReadOnlyFilesystem => "use a file system that is mounted read-write",
        _ => "use another file, or look for the cause in the kernel log (`sudo dmesg`)",
    }
}

fn list(uses: &[Use]) -> String {
    uses.iter().map(Use::to_string).collect::<Vec<_>>().join("; ")
}

fn reverted(left: &[String]) -> String {
    if left.is_empty() {
        return "; all earlier steps were reverted".into();
    }
    format!("; these changes could not be reverted: {}", left.join("; "))
}
