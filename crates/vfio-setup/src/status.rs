//! What is there: cards, their drivers, groups, nodes and links, and what the host has for them.

use super::hugepages::{self, PageSize, Pool};
use super::ids::Model;
use super::mode::{self, Mode};
use super::select::VFIO;
use super::{Host, SetupError};
use serde::Serialize;
use xdma::bus::PciAddress;
use xdma::bus::sysfs::{Function, Link};

/// A look at a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The functions.
    pub functions: Vec<FunctionStatus>,
    /// Functions that could not be read, and why.
    pub problems: Vec<String>,
    /// What concerns all of them.
    pub host: HostStatus,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionStatus {
    /// Where it is.
    pub address: String,
    /// `vendor:device`, in hexadecimal.
    pub id: String,
    /// What card it is known to be; empty if none.
    pub card: &'static str,
    /// The driver that has it.
    pub driver: Option<String>,
    /// The only driver that may have it, if one was named.
    pub driver_override: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// The other members of the group.
    pub group_members: Vec<String>,
    /// Its nodes that are there.
    pub nodes: Vec<String>,
    /// How it can be opened now.
    #[serde(serialize_with = "mode::names")]
    pub modes: Vec<Mode>,
    /// Speed and width of its link.
    pub link: Option<String>,
    /// What it is able to.
    pub link_most: Option<String>,
    /// Whether its link is slower or narrower than that.
    pub link_degraded: bool,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// How the kernel would reset it.
    pub reset_methods: Vec<String>,
}

/// What concerns all functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// Whether the kernel uses an IOMMU.
    pub iommu: bool,
    /// Whether `vfio-pci` is loaded.
    pub vfio_pci: bool,
    /// Whether functions without an IOMMU may be bound; `None` if this kernel has no such mode, or no VFIO yet.
    pub no_iommu_mode: Option<bool>,
    /// Pools of hugepages that have pages.
    pub hugepages: Vec<PoolStatus>,
    /// Bytes that this process may lock, as `/proc/self/limits` has it.
    pub memlock: Option<String>,
}

/// A pool of hugepages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolStatus {
    /// `2M` or `1G`.
    pub size: &'static str,
    /// NUMA node.
    pub node: Option<u32>,
    /// Pages that nobody uses.
    pub free: u64,
    /// All.
    pub total: u64,
}

impl Status {
    /// Looks at the XDMA cards of a host, or at all its functions.
    ///
    /// # Errors
    ///
    /// Sysfs cannot be read at all. What cannot be read of single functions is among the problems.
    pub fn read(host: &Host, all: bool) -> Result<Self, SetupError> {
        let (mut functions, mut problems) = (Vec::new(), Vec::new());
        for function in host.sysfs().functions()? {
            match FunctionStatus::read(host, &function) {
                Ok(status) if all || !status.card.is_empty() => functions.push(status),
                Ok(_) => {}
                Err(error) => problems.push(format!("{}: {error}", function.address())),
            }
        }
        Ok(Self { functions, problems, host: HostStatus::read(host)? })
    }

    /// Those of some functions.
    pub fn functions_of(&self, addresses: &[PciAddress]) -> Vec<&FunctionStatus> {
        let named = |address: &str| addresses.iter().any(|named| named.to_string() == address);
        self.functions.iter().filter(|function| named(&function.address)).collect()
    }
}

impl FunctionStatus {
    fn read(host: &Host, function: &Function) -> Result<Self, SetupError> {
        let (vendor, device, link) = (function.vendor()?, function.device()?, function.link()?);
        let group = function.iommu_group()?;
        let members = group.as_ref().map_or_else(Vec::new, |group| {
            let members = group.members.iter().filter(|&&member| member != function.address());
            members.map(ToString::to_string).chain(group.others.iter().cloned()).collect()
        });
        Ok(Self {
            address: function.address().to_string(),
            id: format!("{vendor:04x}:{device:04x}"),
            card: Model::of(vendor, device).name(),
            driver: function.driver()?,
            driver_override: function.driver_override()?,
            group: group.map(|group| group.number),
            group_members: members,
            nodes: nodes(host, function)?,
            modes: mode::modes(host, function)?,
            link: link.map(|link| link.now.to_string()),
            link_most: link.map(|link| link.most.to_string()),
            link_degraded: link.is_some_and(|link: Link| link.is_degraded()),
            numa_node: function.numa_node()?,
            reset_methods: function.reset_methods()?,
        })
    }
}

fn nodes(host: &Host, function: &Function) -> Result<Vec<String>, SetupError> {
    let mut nodes = Vec::new();
    for mode in [Mode::Cdev, Mode::Type1, Mode::NoIommu] {
        let node = mode::node(mode, function)?;
        nodes.extend(node.filter(|node| host.path(node).exists()).map(|node| format!("/{node}")));
    }
    Ok(nodes)
}

impl HostStatus {
    fn read(host: &Host) -> Result<Self, SetupError> {
        let switch = host.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode")?;
        Ok(Self {
            iommu: !host.names("sys/class/iommu")?.is_empty(),
            vfio_pci: host.path(&format!("sys/bus/pci/drivers/{VFIO}")).is_dir(),
            no_iommu_mode: switch.map(|text| text == "Y"),
            hugepages: pools(host)?,
            memlock: memlock(host)?,
        })
    }
}

fn pools(host: &Host) -> Result<Vec<PoolStatus>, SetupError> {
    let mut nodes: Vec<Option<u32>> = hugepages::nodes(host)?.into_iter().map(Some).collect();
    if nodes.is_empty() {
        nodes.push(None);
    }
    let pools = PageSize::ALL.into_iter().flat_map(|size| nodes.iter().map(move |&node| Pool { size, node }));
    let read = |pool: Pool| {
        // A size that the processor does not have is no error here.
        let (total, free) = (pool.total(host).ok()?, pool.free(host).ok()?);
        (total > 0).then_some(PoolStatus { size: pool.size.name(), node: pool.node, free, total })
    };
    Ok(pools.filter_map(read).collect())
}

/// Bytes that this process may lock, or `unlimited`.
pub(super) fn memlock(host: &Host) -> Result<Option<String>, SetupError> {
    let limits = host.text("proc/self/limits")?.unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    Ok(line.and_then(|line| line.split_whitespace().next()).map(str::to_string))
}
