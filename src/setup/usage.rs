//! Who uses a function now: a function in use is never taken away.

use super::{Host, SetupError};
use crate::bus::PciAddress;
use crate::bus::sysfs::Function;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Component, Path};

/// A use of a function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// A network interface of it is up.
    Network(String),
    /// A file system on it is mounted.
    Mounted {
        /// The disk or partition.
        disk: String,
        /// Where.
        at: String,
    },
    /// It holds swap.
    Swap(String),
    /// RAID, LVM, encryption or the like is built on it.
    Holder {
        /// The disk or partition.
        disk: String,
        /// What holds it.
        holder: String,
    },
    /// The kernel holds a disk of it, and does not say for what: a pool of ZFS, the second disk of a btrfs.
    Held(String),
    /// A process has a node of it open, or registers of it mapped.
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
            Self::Network(name) => write!(f, "network interface {name} is up (`ip link set {name} down`)"),
            Self::Mounted { disk, at } => write!(f, "/dev/{disk} is mounted at {at} (`umount {at}`)"),
            Self::Swap(disk) => write!(f, "/dev/{disk} is swap (`swapoff /dev/{disk}`)"),
            Self::Holder { disk, holder } => write!(f, "/dev/{disk} is part of {holder}"),
            Self::Held(disk) => write!(f, "the kernel holds /dev/{disk}, as part of a pool or the like"),
            // A process calls itself what it likes: root's terminal must not obey.
            Self::Open { pid, command, node } => {
                write!(f, "process {pid} ({}) has {} open", command.escape_debug(), node.escape_debug())
            }
        }
    }
}

/// Every use of a function that can be seen by this user; root sees all.
///
/// # Errors
///
/// A file that should be there cannot be read.
pub fn of(host: &Host, function: &Function) -> Result<Vec<Use>, SetupError> {
    let mut uses = BTreeSet::new();
    networks(host, function.address(), &mut uses)?;
    disks(host, function.address(), &mut uses)?;
    uses.extend(open_nodes(host, function)?);
    Ok(uses.into_iter().collect())
}

/// Names in a class directory whose device lies under the function, drivers' own layers in between included.
fn under(host: &Host, class: &str, address: PciAddress) -> Result<Vec<String>, SetupError> {
    let mut names = host.names(class)?;
    names.retain(|name| {
        let link = fs::read_link(host.path(class).join(name));
        link.is_ok_and(|target| names_function(&target, address))
    });
    Ok(names)
}

fn names_function(path: &Path, address: PciAddress) -> bool {
    let name = address.to_string();
    path.components().any(|part| part == Component::Normal(name.as_ref()))
}

/// Whether a file that a process has is one of the function's in sysfs. Elsewhere anybody can make files of that name.
fn is_of_function(path: &Path, address: PciAddress) -> bool {
    path.starts_with("/sys") && names_function(path, address)
}

fn networks(host: &Host, address: PciAddress, uses: &mut BTreeSet<Use>) -> Result<(), SetupError> {
    const UP: u32 = 1; // IFF_UP
    for name in under(host, "sys/class/net", address)? {
        let flags = host.text(&format!("sys/class/net/{name}/flags"))?.unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16);
        let state = host.text(&format!("sys/class/net/{name}/operstate"))?;
        // Flags that cannot be read count as up: the doubt is the interface's.
        if flags.map_or(true, |flags| flags & UP != 0) || state.as_deref() == Some("up") {
            uses.insert(Use::Network(name));
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
            let place = if *part == disk { directory.clone() } else { format!("{directory}/{part}") };
            let number = host.text(&format!("{place}/dev"))?.unwrap_or_default();
            let node = format!("/dev/{part}");
            let known = uses.len();
            uses.extend(mounted(&mounts, &number, &node).map(|at| Use::Mounted { disk: part.clone(), at }));
            if swaps.lines().any(|line| line.split_whitespace().next() == Some(&node)) {
                uses.insert(Use::Swap(part.clone()));
            }
            let holders = host.names(&format!("{place}/holders"))?;
            uses.extend(holders.into_iter().map(|holder| Use::Holder { disk: part.clone(), holder }));
            if uses.len() == known && host.kernel().is_held(&host.path(&node[1..])) {
                uses.insert(Use::Held(part.clone()));
            }
        }
    }
    Ok(())
}

/// `nvme0c1n2`, a path to a disk that is reachable on several, is part of the disk `nvme0n2`.
fn visible_disk(path: &str) -> String {
    let parse = || {
        let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
        let (_, namespace) = rest.split_once('n')?;
        Some(format!("nvme{subsystem}n{namespace}"))
    };
    parse().unwrap_or_else(|| path.to_string())
}

/// Where a disk is mounted, by the lines of `mountinfo`: by its number, or by name where the file system hides it.
fn mounted(mounts: &str, number: &str, node: &str) -> impl Iterator<Item = String> {
    mounts.lines().filter_map(move |line| {
        let (fields, source) = line.split_once(" - ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        let same = fields.get(2) == Some(&number) || source.split(' ').nth(1) == Some(node);
        same.then(|| fields.get(4).map(|at| at.to_string())).flatten()
    })
}

/// Nodes of a function: how they are called, and their numbers.
struct Nodes {
    names: BTreeSet<String>,
    numbers: BTreeSet<(bool, String)>,
}

impl Nodes {
    fn of(host: &Host, function: &Function) -> Result<Self, SetupError> {
        let mut nodes = Self { names: BTreeSet::new(), numbers: BTreeSet::new() };
        for (class, block) in [("sys/dev/char", false), ("sys/dev/block", true)] {
            for number in under(host, class, function.address())? {
                let event = host.text(&format!("{class}/{number}/uevent"))?.unwrap_or_default();
                let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="));
                nodes.names.extend(name.map(|name| format!("/dev/{name}")));
                nodes.numbers.insert((block, number));
            }
        }
        if let Some(group) = function.iommu_group()? {
            // The group's node is no child of the function.
            let number = host.text(&format!("sys/class/vfio/{}/dev", group.node()))?;
            nodes.numbers.extend(number.map(|number| (false, number)));
            nodes.names.insert(format!("/dev/vfio/{}", group.node()));
        }
        Ok(nodes)
    }

    /// The name under which an open file is one of them.
    fn find(&self, descriptor: &Path, address: PciAddress) -> Option<String> {
        let target = fs::read_link(descriptor).ok()?;
        let name = target.display().to_string();
        let is_register_file = name.contains("/resource") && is_of_function(&target, address);
        (self.names.contains(&name) || is_register_file || self.has_number(descriptor)).then_some(name)
    }

    /// The number tells where a node has another name, as in a container.
    fn has_number(&self, descriptor: &Path) -> bool {
        // Without asking the file system, which may be a user's own (FUSE) and never answer.
        let data = rustix::fs::statx(CWD, descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
        let Ok(data) = data else { return false };
        let kind = FileType::from_raw_mode(data.stx_mode.into());
        if !kind.is_char_device() && !kind.is_block_device() {
            return false;
        }
        let number = format!("{}:{}", data.stx_rdev_major, data.stx_rdev_minor);
        self.numbers.contains(&(kind.is_block_device(), number))
    }
}

/// Processes that have a node of a function open, or its registers mapped. This process is not counted.
///
/// # Errors
///
/// A file that should be there cannot be read.
pub fn open_nodes(host: &Host, function: &Function) -> Result<Vec<Use>, SetupError> {
    let nodes = Nodes::of(host, function)?;
    let mut uses = BTreeSet::new();
    for name in host.names("proc")? {
        let Ok(pid) = name.parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        // A process may end, or be another user's: what cannot be seen is left out.
        let descriptors = host.names(&format!("proc/{pid}/fd")).unwrap_or_default();
        let mut held: BTreeSet<String> = descriptors
            .iter()
            .filter_map(|fd| nodes.find(&host.path(&format!("proc/{pid}/fd/{fd}")), function.address()))
            .collect();
        held.extend(mapped(host, pid, &nodes, function.address()));
        let command = host.text(&format!("proc/{pid}/comm")).ok().flatten().unwrap_or_default();
        uses.extend(held.into_iter().map(|node| Use::Open { pid, command: command.clone(), node }));
    }
    Ok(uses.into_iter().collect())
}

/// Files of a function that a process has mapped: it may have closed them since.
fn mapped(host: &Host, pid: u32, nodes: &Nodes, address: PciAddress) -> Vec<String> {
    let maps = host.text(&format!("proc/{pid}/maps")).ok().flatten().unwrap_or_default();
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let of_function = |file: &&str| nodes.names.contains(*file) || is_of_function(Path::new(file), address);
    files.filter(of_function).map(str::to_string).collect()
}
