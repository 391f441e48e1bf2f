//! The state of the host: cards with their drivers, groups, nodes and links; IOMMU, hugepages and limits.

use super::claims::{self, Claim};
use super::hugepages::{self, PageSize, Pool};
use super::mode::{self, Mode};
use super::presence::Presence;
use super::reset::Reset;
use super::select::{self, VFIO};
use super::{Host, SetupError};
use serde::{Serialize, Serializer};
use serde_json::json;
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::{Function, Link, LinkState};

/// The state of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The functions.
    pub functions: Vec<FunctionStatus>,
    /// Functions that could not be read, and why.
    pub problems: Vec<String>,
    /// State that concerns all functions.
    pub host: HostStatus,
}

/// The state of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionStatus {
    /// PCI address.
    pub address: String,
    /// PCI IDs, as `vendor:device` in hexadecimal.
    pub id: String,
    /// Model of the card; empty if unknown.
    pub card: &'static str,
    /// Driver to which the function is bound.
    pub driver: Option<String>,
    /// The only driver that may bind to the function, if set.
    pub driver_override: Option<String>,
    /// IOMMU group.
    pub group: Option<u32>,
    /// Other members of the group.
    pub group_members: Vec<String>,
    /// Existing VFIO nodes.
    pub nodes: Vec<String>,
    /// The reason why the function does not work, if the device does not answer as the kernel describes it.
    pub problem: Option<String>,
    /// The remedy for the problem.
    pub remedy: Option<String>,
    /// VFIO modes in which the function can be opened now.
    #[serde(serialize_with = "mode::names")]
    pub modes: Vec<Mode>,
    /// Current speed and width of the link.
    #[serde(serialize_with = "link_object")]
    pub link: Option<LinkState>,
    /// Highest speed and width that the card supports.
    #[serde(serialize_with = "link_object")]
    pub link_most: Option<LinkState>,
    /// Whether the link is slower or narrower than the card supports.
    pub link_degraded: bool,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Reset methods of the kernel for this function.
    pub reset_methods: Vec<String>,
    /// How the function can be reset.
    pub reset: String,
    /// Other functions that a reset of this one would affect.
    pub reset_hits: Vec<String>,
    /// Settings outside the function by which a driver claims it.
    pub claims: Vec<Claim>,
}

/// State that concerns all functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// Whether the kernel uses an IOMMU.
    pub iommu: bool,
    /// Whether `vfio-pci` is loaded.
    pub vfio_pci: bool,
    /// Whether no-IOMMU mode is enabled; `None` if the kernel does not support it, or VFIO is not loaded.
    pub no_iommu_mode: Option<bool>,
    /// Pools of hugepages that have pages.
    pub hugepages: Vec<PoolStatus>,
    /// Number of bytes that this process may lock, or `unlimited`.
    #[serde(serialize_with = "limit_number")]
    pub memlock: Option<String>,
}

/// A pool of hugepages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolStatus {
    /// `2M` or `1G`.
    pub size: &'static str,
    /// NUMA node.
    pub node: Option<u32>,
    /// Number of free pages.
    pub free: u64,
    /// Number of all pages.
    pub total: u64,
}

/// Serializes the state of a link as numbers.
fn link_object<S: Serializer>(link: &Option<LinkState>, to: S) -> Result<S::Ok, S::Error> {
    let object =
        |link: LinkState| json!({ "megatransfers_per_second": link.megatransfers, "lanes": link.width });
    link.map(object).serialize(to)
}

/// Serializes a limit as a number, unless it is `unlimited`.
fn limit_number<S: Serializer>(limit: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    match limit.as_ref().map(|text| text.parse::<u64>()) {
        Some(Ok(bytes)) => bytes.serialize(to),
        _ => limit.serialize(to),
    }
}

impl Status {
    /// Reads the state of the XDMA cards of a host, or with `all` of all PCI functions.
    ///
    /// # Errors
    ///
    /// Sysfs cannot be read. Errors of single functions are added to `problems`.
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

    /// Reads the state of the named functions.
    ///
    /// # Errors
    ///
    /// A function does not exist, or it cannot be read.
    pub fn of(host: &Host, named: &[PciAddress]) -> Result<Self, SetupError> {
        let read = |&address: &PciAddress| FunctionStatus::read(host, &host.sysfs().function(address)?);
        let functions = named.iter().map(read).collect::<Result<_, SetupError>>()?;
        Ok(Self { functions, problems: Vec::new(), host: HostStatus::read(host)? })
    }

    /// Returns the status of some functions.
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
        let (presence, reset) = (Presence::of(host, function)?, Reset::of(host, function)?);
        let works = presence == Presence::Present;
        Ok(Self {
            address: function.address().to_string(),
            id: format!("{vendor:04x}:{device:04x}"),
            card: select::model(function)?.name(),
            driver: function.driver()?,
            driver_override: function.driver_override()?,
            group: group.map(|group| group.number),
            group_members: members,
            nodes: nodes(host, function)?,
            problem: (!works).then(|| presence.to_string()),
            remedy: presence.remedy(function.address()),
            modes: if works { mode::modes(host, function)? } else { Vec::new() },
            link: link.map(|link| link.now),
            link_most: link.map(|link| link.most),
            link_degraded: link.is_some_and(|link: Link| link.is_degraded()),
            numa_node: function.numa_node()?,
            reset_methods: function.reset_methods()?,
            reset: reset.to_string(),
            reset_hits: reset.others(),
            claims: claims::of(host, function)?,
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
        // A page size that the processor does not support is skipped.
        let (total, free) = (pool.total(host).ok()?, pool.free(host).ok()?);
        (total > 0).then_some(PoolStatus { size: pool.size.name(), node: pool.node, free, total })
    };
    Ok(pools.filter_map(read).collect())
}

/// Returns the number of bytes that this process may lock, or `unlimited`.
pub(super) fn memlock(host: &Host) -> Result<Option<String>, SetupError> {
    let limits = host.text("proc/self/limits")?.unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    Ok(line.and_then(|line| line.split_whitespace().next()).map(str::to_string))
}
