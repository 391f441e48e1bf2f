//! PCI functions as sysfs describes them.
//!
//! This module only reads. The root directory is configurable, so that tests and inspections of another system's files use the
//! same code. Nothing is cached: each method reads the files when it is called, and the state may change afterwards.

mod read;
#[cfg(test)]
mod tests;

pub use read::SysfsError;
#[doc(hidden)]
pub use read::{bounded, bounded_names};

use super::{BARS, PciAddress};
use std::path::{Path, PathBuf};

/// The kernel's name for groups of functions without an IOMMU.
const NO_IOMMU_GROUP: &str = "vfio-noiommu";

/// Sysfs below a root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// Uses the sysfs at `root/sys`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Uses the sysfs of the running system.
    pub fn system() -> Self {
        Self::new("/")
    }

    /// Returns the root directory, which contains `sys`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns all PCI functions, sorted by address.
    ///
    /// # Errors
    ///
    /// The directory of PCI functions cannot be read.
    pub fn functions(&self) -> Result<Vec<Function>, SysfsError> {
        let names = read::names(&self.root.join("sys/bus/pci/devices"))?;
        let mut addresses: Vec<PciAddress> = names.iter().filter_map(|name| name.parse().ok()).collect();
        addresses.sort();
        Ok(addresses.into_iter().map(|address| self.unchecked(address)).collect())
    }

    /// Returns the function at `address`.
    ///
    /// # Errors
    ///
    /// [`SysfsError::NoFunction`] if there is none.
    pub fn function(&self, address: PciAddress) -> Result<Function, SysfsError> {
        let function = self.unchecked(address);
        if function.exists() { Ok(function) } else { Err(SysfsError::NoFunction { address }) }
    }

    fn unchecked(&self, address: PciAddress) -> Function {
        let directory = self.root.join("sys/bus/pci/devices").join(address.to_string());
        Function { address, directory, groups: self.root.join("sys/kernel/iommu_groups") }
    }
}

/// A PCI function. Each method reads the function's files when it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    address: PciAddress,
    directory: PathBuf,
    groups: PathBuf,
}

impl Function {
    /// Returns its address.
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// Returns its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns whether the function exists.
    pub fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// Returns the PCI vendor ID.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn vendor(&self) -> Result<u16, SysfsError> {
        read::hex(&self.directory.join("vendor"), 16).map(|id| id as u16)
    }

    /// Returns the PCI device ID.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn device(&self) -> Result<u16, SysfsError> {
        read::hex(&self.directory.join("device"), 16).map(|id| id as u16)
    }

    /// Returns class, subclass and programming interface as a 24-bit number.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn class(&self) -> Result<u32, SysfsError> {
        read::hex(&self.directory.join("class"), 24).map(|class| class as u32)
    }

    /// Returns whether it is a PCI-to-PCI bridge. The kernel allows bridges in a group with functions of `vfio-pci`.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn is_bridge(&self) -> Result<bool, SysfsError> {
        Ok(matches!(self.class()? >> 8, 0x0604 | 0x0609))
    }

    /// Returns the driver that it is bound to.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn driver(&self) -> Result<Option<String>, SysfsError> {
        read::link_name(&self.directory.join("driver"))
    }

    /// Returns the only driver that may bind to it, if one is set. The kernel writes `(null)` if none is.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn driver_override(&self) -> Result<Option<String>, SysfsError> {
        let text = read::optional(&self.directory.join("driver_override"))?;
        Ok(text.filter(|name| !name.is_empty() && name != "(null)"))
    }

    /// Returns its IOMMU group. A function without an IOMMU has one only while it is bound to `vfio-pci` in no-IOMMU mode.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn iommu_group(&self) -> Result<Option<Group>, SysfsError> {
        let path = self.directory.join("iommu_group");
        let Some(name) = read::link_name(&path)? else { return Ok(None) };
        let number = name.parse().map_err(|_| SysfsError::garbage(&path, &name, "an IOMMU group number"))?;
        Group::read(&self.groups.join(&name), number).map(Some)
    }

    /// Returns its NUMA node, if the firmware reports one.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn numa_node(&self) -> Result<Option<u32>, SysfsError> {
        let path = self.directory.join("numa_node");
        let Some(text) = read::optional(&path)? else { return Ok(None) };
        let node: i32 = text.parse().map_err(|_| SysfsError::garbage(&path, &text, "a NUMA node number"))?;
        // -1: no node.
        Ok(u32::try_from(node).ok())
    }

    /// Returns the state of its link, if it has one and the kernel reports current and maximum speed and width.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn link(&self) -> Result<Option<Link>, SysfsError> {
        let now = LinkState::read(&self.directory, "current")?;
        let most = LinkState::read(&self.directory, "max")?;
        Ok(now.zip(most).map(|(now, most)| Link { now, most }))
    }

    /// Returns the kernel's reset methods for it, in the order in which the kernel tries them; empty if there are none.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn reset_methods(&self) -> Result<Vec<String>, SysfsError> {
        let text = read::optional(&self.directory.join("reset_method"))?.unwrap_or_default();
        Ok(text.split_whitespace().map(str::to_string).collect())
    }

    /// Returns the name of its node in `/dev/vfio/devices`, such as `vfio0`, if it has one.
    ///
    /// The kernel names every function of `vfio-pci`, but creates a node only with `CONFIG_VFIO_DEVICE_CDEV` and behind an IOMMU.
    /// Only then does the name have a device number.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn vfio_device(&self) -> Result<Option<String>, SysfsError> {
        let directory = self.directory.join("vfio-dev");
        let mut names = read::optional_names(&directory)?;
        names.retain(|name| is_numbered(name, "vfio") && directory.join(name).join("dev").exists());
        Ok(names.pop())
    }

    /// Returns the size of each BAR in bytes; 0 if the BAR does not exist.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn bars(&self) -> Result<[u64; BARS], SysfsError> {
        let path = self.directory.join("resource");
        let text = read::required(&path)?;
        let mut sizes = [0; BARS];
        for (size, line) in sizes.iter_mut().zip(text.lines()) {
            *size = bar_size(line).ok_or_else(|| SysfsError::garbage(&path, line, "start, end, flags"))?;
        }
        Ok(sizes)
    }
}

/// Returns whether `name` is `prefix` followed by a number.
fn is_numbered(name: &str, prefix: &str) -> bool {
    let digits = name.strip_prefix(prefix);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn bar_size(line: &str) -> Option<u64> {
    let mut numbers = line.split(' ').map(|n| u64::from_str_radix(n.strip_prefix("0x")?, 16).ok());
    let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if flags == 0 {
        return Some(0);
    }
    end.checked_sub(start)?.checked_add(1)
}

/// An IOMMU group: functions that the IOMMU cannot isolate from each other, and that therefore must have one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// Whether it is a no-IOMMU group, which provides no isolation.
    pub no_iommu: bool,
    /// Its PCI functions, sorted.
    pub members: Vec<PciAddress>,
    /// Members that are not PCI functions.
    pub others: Vec<String>,
}

impl Group {
    fn read(directory: &Path, number: u32) -> Result<Self, SysfsError> {
        let name = read::optional(&directory.join("name"))?;
        let (mut members, mut others) = (Vec::new(), Vec::new());
        for name in read::names(&directory.join("devices"))? {
            match name.parse() {
                Ok(address) => members.push(address),
                Err(_) => others.push(name),
            }
        }
        members.sort();
        others.sort();
        Ok(Self { number, no_iommu: name.as_deref() == Some(NO_IOMMU_GROUP), members, others })
    }

    /// Returns the name of its node in `/dev/vfio`.
    pub fn node(&self) -> String {
        if self.no_iommu { format!("noiommu-{}", self.number) } else { self.number.to_string() }
    }
}

/// The current state of a PCI Express link, and the maximum that the function supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Negotiated speed and width.
    pub now: LinkState,
    /// Maximum speed and width of the function.
    pub most: LinkState,
}

impl Link {
    /// Returns whether the link is slower or narrower than the function supports.
    pub fn is_degraded(&self) -> bool {
        self.now.megatransfers < self.most.megatransfers || self.now.width < self.most.width
    }
}

/// Speed and width of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Transfer rate per lane in MT/s: 8000 is "8.0 GT/s", generation 3.
    pub megatransfers: u32,
    /// Number of lanes.
    pub width: u32,
}

impl LinkState {
    /// Reads the `current` or `max` state. `None` if a file is missing, or if the kernel reports the speed or width as unknown.
    fn read(directory: &Path, which: &str) -> Result<Option<Self>, SysfsError> {
        let speed = directory.join(format!("{which}_link_speed"));
        let width = directory.join(format!("{which}_link_width"));
        let (Some(speed_text), Some(width_text)) = (read::optional(&speed)?, read::optional(&width)?) else {
            return Ok(None);
        };
        if speed_text.starts_with("Unknown") {
            return Ok(None);
        }
        let megatransfers = megatransfers(&speed_text)
            .ok_or_else(|| SysfsError::garbage(&speed, &speed_text, "a speed such as `8.0 GT/s PCIe`"))?;
        let width: u32 =
            width_text.parse().map_err(|_| SysfsError::garbage(&width, &width_text, "a number of lanes"))?;
        // 0: the link is down; 255: the width is unknown.
        Ok((1..=32).contains(&width).then_some(Self { megatransfers, width }))
    }
}

/// Parses `8.0 GT/s PCIe`, or `8 GT/s` as kernels before 5.6 write it.
fn megatransfers(text: &str) -> Option<u32> {
    let number = text.split(' ').next()?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let tenths: u32 = tenths.parse().ok().filter(|&tenths| tenths < 10)?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(tenths * 100)
}

impl std::fmt::Display for LinkState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { megatransfers, width } = self;
        write!(f, "{}.{} GT/s x{width}", megatransfers / 1000, megatransfers % 1000 / 100)
    }
}
