//! Current uses of a function. A function in use is never unbound from its driver.

use super::release::{self, Release};
use super::{Host, SetupError, holders};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Component, Path};
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// A use of a function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// One of its network interfaces is up.
    Network {
        /// The interface.
        name: String,
        /// How to take it down.
        release: Release,
    },
    /// A file system on one of its disks is mounted.
    Mounted {
        /// The disk or partition.
        disk: String,
        /// The mount point.
        at: String,
        /// How to unmount it.
        release: Release,
    },
    /// A disk or partition is used for swap.
    Swap {
        /// The disk or partition.
        disk: String,
        /// How to end the use.
        release: Release,
    },
    /// A RAID, LVM, encrypted or similar device is built on a disk.
    Holder {
        /// The disk or partition.
        disk: String,
        /// The device that is built on it.
        holder: String,
    },
    /// The kernel uses a disk for an unknown purpose, such as a ZFS pool or a btrfs with several disks.
    Held(String),
    /// A process has a node open, or registers mapped.
    Open {
        /// The process.
        pid: u32,
        /// Its name.
        command: String,
        /// The node.
        node: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { name, release } => {
                write!(f, "network interface {} is up {release}", name.escape_debug())
            }
            Self::Mounted { disk, at, release } => {
                write!(f, "/dev/{disk} is mounted at {} {release}", at.escape_debug())
            }
            Self::Swap { disk, release } => write!(f, "/dev/{disk} is swap {release}"),
            Self::Holder { disk, holder } => write!(f, "/dev/{disk} is part of {holder}"),
            Self::Held(disk) => write!(f, "the kernel is using /dev/{disk}, for example as part of a pool"),
            // A process can choose its name, so escape sequences for root's terminal are escaped.
            Self::Open { pid, command, node } => {
                write!(f, "process {pid} ({}) has {} open", command.escape_debug(), node.escape_debug())
            }
        }
    }
}

/// The uses of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Uses that cannot be faked.
    pub certain: Vec<Use>,
    /// Processes that could not be examined, or that have a file open which only has the same name as one of the function's
    /// files. Any user can create such a file in a private mount namespace.
    pub doubtful: Vec<String>,
}

/// Returns all uses of a function that this user can see. Root sees all uses.
///
/// # Errors
///
/// A file of the host cannot be read.
pub fn of(host: &Host, function: &Function) -> Result<Uses, SetupError> {
    let mut uses = BTreeSet::new();
    networks(host, function.address(), &mut uses)?;
    disks(host, function.address(), &mut uses)?;
    let processes = holders::of(host, function)?;
    uses.extend(processes.certain);
    Ok(Uses { certain: uses.into_iter().collect(), doubtful: processes.doubtful })
}

/// Returns the names in a class directory whose devices are below the function, at any depth.
pub(super) fn under(host: &Host, class: &str, address: PciAddress) -> Result<Vec<String>, SetupError> {
    let mut names = host.names(class)?;
    names.retain(|name| {
        let link = fs::read_link(host.path(class).join(name));
        link.is_ok_and(|target| names_function(&target, address))
    });
    Ok(names)
}

pub(super) fn names_function(path: &Path, address: PciAddress) -> bool {
    let name = address.to_string();
    path.components().any(|part| part == Component::Normal(name.as_ref()))
}

fn networks(host: &Host, address: PciAddress, uses: &mut BTreeSet<Use>) -> Result<(), SetupError> {
    const UP: u32 = 1; // IFF_UP
    for name in under(host, "sys/class/net", address)? {
        let flags = host.text(&format!("sys/class/net/{name}/flags"))?.unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16);
        let state = host.text(&format!("sys/class/net/{name}/operstate"))?;
        // An interface with invalid flags counts as up.
        if flags.map_or(true, |flags| flags & UP != 0) || state.as_deref() == Some("up") {
            let release = release::network(host, &name)?;
            uses.insert(Use::Network { name, release });
        }
    }
    Ok(())
}

fn disks(host: &Host, address: PciAddress, uses: &mut BTreeSet<Use>) -> Result<(), SetupError> {
    let mounts = host.text("proc/self/mountinfo")?.unwrap_or_default();
    let swaps = host.text("proc/swaps")?.unwrap_or_default();
    for path in under(host, "sys/block", address)? {
        let disk = visible_disk(&path);
        let directory = format!("sys/block/{disk}");
        let names = host.names(&directory)?;
        let parts = names.iter().filter(|name| name.starts_with(disk.as_str()));
        for part in std::iter::once(&disk).chain(parts) {
            let entry = if *part == disk { directory.clone() } else { format!("{directory}/{part}") };
            let number = host.text(&format!("{entry}/dev"))?.unwrap_or_default();
            let node = format!("/dev/{part}");
            let known = uses.len();
            uses.extend(mounted(&mounts, &number, &node).map(|at| Use::Mounted {
                disk: part.clone(),
                release: release::mount(&at),
                at: release::decoded(&at),
            }));
            if let Some(line) = swaps.lines().find(|line| line.split_whitespace().next() == Some(&node)) {
                uses.insert(Use::Swap { disk: part.clone(), release: release::swap(host, part, line)? });
            }
            let holders = host.names(&format!("{entry}/holders"))?;
            uses.extend(holders.into_iter().map(|holder| Use::Holder { disk: part.clone(), holder }));
            if uses.len() == known && host.kernel().is_held(&host.path(&node[1..])) {
                uses.insert(Use::Held(part.clone()));
            }
        }
    }
    Ok(())
}

/// Returns the disk to which a path of a multipath NVMe disk belongs, such as `nvme0n2` for `nvme0c1n2`.
fn visible_disk(path: &str) -> String {
    let parse = || {
        let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
        let (_, namespace) = rest.split_once('n')?;
        Some(format!("nvme{subsystem}n{namespace}"))
    };
    parse().unwrap_or_else(|| path.to_string())
}

/// Returns the mount points of a disk according to `mountinfo`. The disk is found by its device number, or by its name for file
/// systems with their own device number. The source name of a FUSE file system is ignored, because its user can choose it.
fn mounted(mounts: &str, number: &str, node: &str) -> impl Iterator<Item = String> {
    mounts.lines().filter_map(move |line| {
        let (fields, source) = line.split_once(" - ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        let (kind, device) = source.split_once(' ')?;
        let named = device.split(' ').next() == Some(node) && kind != "fuse" && !kind.starts_with("fuse.");
        let same = fields.get(2) == Some(&number) || named;
        same.then(|| fields.get(4).map(|at| at.to_string())).flatten()
    })
}
