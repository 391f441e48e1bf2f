//! Which functions a command is about, and whether they may be taken.

use super::ids::Model;
use super::{Host, Refusal, SetupError, usage};
use std::fs;
use xdma::bus::PciAddress;
use xdma::bus::sysfs::{Function, Group};

/// The driver that hands a function to a process.
pub const VFIO: &str = "vfio-pci";

/// Drivers beside which the kernel lets a process have the rest of a group.
const HARMLESS: [&str; 3] = [VFIO, "pci-stub", "pcieport"];

/// The functions that were named, or all XDMA cards if none was.
///
/// # Errors
///
/// One is not there, or not known to be a card (unless `any`), or there is none.
pub fn functions(host: &Host, named: &[PciAddress], any: bool) -> Result<Vec<Function>, SetupError> {
    if named.is_empty() {
        return cards(host);
    }
    let mut addresses = named.to_vec();
    addresses.sort();
    addresses.dedup();
    let find = |address: PciAddress| {
        let function = host.sysfs().function(address)?;
        let (vendor, device) = (function.vendor()?, function.device()?);
        if function.is_bridge()? {
            return Err(Refusal::Bridge(address).into());
        }
        match Model::of(vendor, device) {
            Model::Empty if !any => Err(Refusal::NoImage(address).into()),
            Model::Unknown if !any => Err(Refusal::UnknownCard { address, vendor, device }.into()),
            _ => Ok(function),
        }
    };
    addresses.into_iter().map(find).collect()
}

fn cards(host: &Host) -> Result<Vec<Function>, SetupError> {
    let mut cards = Vec::new();
    for function in host.sysfs().functions()? {
        if Model::of(function.vendor()?, function.device()?).is_card() {
            cards.push(function);
        }
    }
    if cards.is_empty() { Err(Refusal::NoCard.into()) } else { Ok(cards) }
}

/// That nobody uses a function. Returns what is doubtful, for the administrator to know: it must not keep root from anything.
pub(super) fn require_idle(host: &Host, function: &Function) -> Result<Vec<String>, SetupError> {
    let (address, uses) = (function.address(), usage::of(host, function)?);
    if !uses.certain.is_empty() {
        return Err(Refusal::InUse { address, uses: uses.certain }.into());
    }
    Ok(uses.doubtful.iter().map(|doubt| format!("not counted as a user of {address}: {doubt}")).collect())
}

/// That a function's group has no members with drivers of the kernel's, but those that are about to be taken too.
pub(super) fn require_viable(
    host: &Host,
    function: &Function,
    group: &Group,
    taken: &[PciAddress],
) -> Result<(), SetupError> {
    let members = foreign_members(host, group, taken)?;
    if members.is_empty() {
        return Ok(());
    }
    Err(Refusal::ForeignMembers { address: function.address(), group: group.number, members }.into())
}

/// Members that keep a process from having the group, as the kernel sees it: bridges and unbound functions do not.
pub(super) fn foreign_members(
    host: &Host,
    group: &Group,
    taken: &[PciAddress],
) -> Result<Vec<String>, SetupError> {
    let mut foreign = Vec::new();
    for &address in group.members.iter().filter(|address| !taken.contains(address)) {
        let member = host.sysfs().function(address)?;
        match member.driver()? {
            Some(driver) if !HARMLESS.contains(&driver.as_str()) && !member.is_bridge()? => {
                foreign.push(format!("{address} (driver {driver})"));
            }
            _ => {}
        }
    }
    for name in &group.others {
        let driver = format!("sys/kernel/iommu_groups/{}/devices/{name}/driver", group.number);
        if fs::symlink_metadata(host.path(&driver)).is_ok() {
            foreign.push(format!("{name} (no PCI function)"));
        }
    }
    Ok(foreign)
}
