//! What the kernel says of PCI functions in sysfs.
//!
//! Nothing here writes. The root directory can be replaced, so that tests, and looks into a system that is not the
//! running one, go through the same code. Each method reads anew: what it returns was true a moment ago.

mod read;
#[cfg(test)]
mod tests;

pub use read::SysfsError;
#[doc(hidden)]
pub use read::{bounded, bounded_names};

use super::{BARS, PciAddress};
use std::path::{Path, PathBuf};

/// The name that the kernel gives to groups of functions without an IOMMU.
const NO_IOMMU_GROUP: &str = "vfio-noiommu";

/// Sysfs below a root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// Sysfs at `sys` below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Sysfs of the running system.
    pub fn system() -> Self {
        Self::new("/")
    }

    /// The root directory: `sys` is below it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every PCI function, sorted by address.
    ///
    /// Functions in domains above ffff, which only storage behind Intel's VMD has, are left out.
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

    /// A function.
    ///
    /// # Errors
    ///
    /// [`SysfsError::NoFunction`].
    pub fn function(&self, address: PciAddress) -> Result<Function, SysfsError> {
        let function = self.unchecked(address);
        if function.exists() { Ok(function) } else { Err(SysfsError::NoFunction { address }) }
    }

    fn unchecked(&self, address: PciAddress) -> Function {
        let directory = self.root.join("sys/bus/pci/devices").join(address.to_string());
        Function { address, directory, groups: self.root.join("sys/kernel/iommu_groups") }
    }
}

/// A PCI function. Each method reads its files now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    address: PciAddress,
    directory: PathBuf,
    groups: PathBuf,
}

impl Function {
    /// Where it is.
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it is there now.
    pub fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// PCI vendor.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn vendor(&self) -> Result<u16, SysfsError> {
        read::hex(&self.directory.join("vendor"), 16).map(|id| id as u16)
    }

    /// PCI device.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn device(&self) -> Result<u16, SysfsError> {
        read::hex(&self.directory.join("device"), 16).map(|id| id as u16)
    }

    /// Class, subclass and programming interface, 24 bits.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn class(&self) -> Result<u32, SysfsError> {
        read::hex(&self.directory.join("class"), 24).map(|class| class as u32)
    }

    /// Whether it is a PCI-to-PCI bridge, which the kernel lets into a group beside functions of `vfio-pci`.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn is_bridge(&self) -> Result<bool, SysfsError> {
        Ok(matches!(self.class()? >> 8, 0x0604 | 0x0609))
    }

    /// The driver that has it.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn driver(&self) -> Result<Option<String>, SysfsError> {
        read::link_name(&self.directory.join("driver"))
    }

    /// The only driver that may have it, if one was named. `(null)` is how the kernel writes none.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn driver_override(&self) -> Result<Option<String>, SysfsError> {
        let text = read::optional(&self.directory.join("driver_override"))?;
        Ok(text.filter(|name| !name.is_empty() && name != "(null)"))
    }

    /// Its IOMMU group. There is none without an IOMMU, until `vfio-pci` takes the function in no-IOMMU mode.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn iommu_group(&self) -> Result<Option<Group>, SysfsError> {
        let path = self.directory.join("iommu_group");
        let Some(name) = read::link_name(&path)? else { return Ok(None) };
        let number =
            name.parse().map_err(|_| SysfsError::garbage(&path, &name, "the number of an IOMMU group"))?;
        Group::read(&self.groups.join(&name), number).map(Some)
    }

    /// Its NUMA node, if the firmware says.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn numa_node(&self) -> Result<Option<u32>, SysfsError> {
        let path = self.directory.join("numa_node");
        let Some(text) = read::optional(&path)? else { return Ok(None) };
        let node: i32 = text.parse().map_err(|_| SysfsError::garbage(&path, &text, "a node's number"))?;
        // -1: no node.
        Ok(u32::try_from(node).ok())
    }

    /// Its link, if it has one and the kernel knows both ends' abilities.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn link(&self) -> Result<Option<Link>, SysfsError> {
        let now = LinkState::read(&self.directory, "current")?;
        let most = LinkState::read(&self.directory, "max")?;
        Ok(now.zip(most).map(|(now, most)| Link { now, most }))
    }

    /// How the kernel would reset it, best first; empty where it cannot.
    ///
    /// # Errors
    ///
    /// [`SysfsError`].
    pub fn reset_methods(&self) -> Result<Vec<String>, SysfsError> {
        let text = read::optional(&self.directory.join("reset_method"))?.unwrap_or_default();
        Ok(text.split_whitespace().map(str::to_string).collect())
    }

    /// Name of its node in `/dev/vfio/devices`, such as `vfio0`, if this kernel gives one.
    ///
    /// The kernel has the name for each function of `vfio-pci`, and a node only with `CONFIG_VFIO_DEVICE_CDEV` and
    /// behind an IOMMU: then the name has a device number.
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

    /// Bytes of each BAR, 0 where there is none.
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

/// Whether `name` is `prefix` and a number.
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

/// An IOMMU group: what the IOMMU cannot tell apart, and therefore only one owner may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// It stands for the absence of an IOMMU.
    pub no_iommu: bool,
    /// PCI functions in it, sorted.
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

    /// Name of its node in `/dev/vfio`.
    pub fn node(&self) -> String {
        if self.no_iommu { format!("noiommu-{}", self.number) } else { self.number.to_string() }
    }
}

/// A link, and the best that the function can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What was negotiated.
    pub now: LinkState,
    /// What the function is able to.
    pub most: LinkState,
}

impl Link {
    /// Whether it is slower or narrower than the function is able to.
    pub fn is_degraded(&self) -> bool {
        self.now.megatransfers < self.most.megatransfers || self.now.width < self.most.width
    }
}

/// Speed and width of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// 10^6 transfers per second and lane: 8000 is "8.0 GT/s", generation 3.
    pub megatransfers: u32,
    /// Lanes.
    pub width: u32,
}

impl LinkState {
    /// `None` where a file is missing or says that it does not know.
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
        // 0: the link is down; 255: the register holds nothing.
        Ok((1..=32).contains(&width).then_some(Self { megatransfers, width }))
    }
}

/// `8.0 GT/s PCIe`, and `8 GT/s` of kernels before 5.6.
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
