//! Selecting the functions of a command, and checking whether they can be bound.

use super::{Host, Refusal, SetupError, usage};
use std::fs;
use xdma::card::PciAddress;
use xdma::regs::ids::Model;
use xdma::unstable::bus::sysfs::{Function, Group};

/// The driver that makes a function available to processes.
pub const VFIO: &str = "vfio-pci";

/// Drivers of group members that do not prevent a process from using the group.
const HARMLESS: [&str; 3] = [VFIO, "pci-stub", "pcieport"];

/// The kernel module for XDMA cards.
pub(super) const XDMA: &str = "xdma";

/// Returns the model of a function by its PCI IDs. A function with unknown IDs that is bound to the kernel's `xdma` module counts as
/// a card.
///
/// # Errors
///
/// Sysfs cannot be read.
pub fn model(function: &Function) -> Result<Model, SetupError> {
    let model = Model::of(function.vendor()?, function.device()?);
    let is_bound = model == Model::Unknown && function.driver()?.as_deref() == Some(XDMA);
    Ok(if is_bound { Model::Card("custom IDs, bound to xdma") } else { model })
}

/// Returns the named functions, or all XDMA cards if none is named.
///
/// # Errors
///
/// A function does not exist or, unless `any` is set, is not known to be a card; or there is no card.
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
        if address.is_behind_vmd() {
            return Err(Refusal::BehindVmd(address).into());
        }
        match model(&function)? {
            Model::Management => Err(Refusal::Management(address).into()),
            Model::NoImage if !any => Err(Refusal::NoImage(address).into()),
            Model::Unknown if !any => Err(Refusal::UnknownCard { address, vendor, device }.into()),
            _ => Ok(function),
        }
    };
    addresses.into_iter().map(find).collect()
}

fn cards(host: &Host) -> Result<Vec<Function>, SetupError> {
    let mut cards = Vec::new();
    for function in host.sysfs().functions()? {
        if !function.address().is_behind_vmd() && model(&function)?.is_card() {
            cards.push(function);
        }
    }
    if cards.is_empty() { Err(Refusal::NoCard.into()) } else { Ok(cards) }
}

/// Checks that a function is not in use. Returns notes on doubtful uses, which do not block the function, because any user can fake
/// them.
pub(super) fn require_idle(host: &Host, function: &Function) -> Result<Vec<String>, SetupError> {
    let (address, uses) = (function.address(), usage::of(host, function)?);
    if !uses.certain.is_empty() {
        return Err(Refusal::InUse { address, uses: uses.certain }.into());
    }
    Ok(uses.doubtful.iter().map(|doubt| format!("not counted as a use of {address}: {doubt}")).collect())
}

/// Checks that no member of a function's group is bound to a kernel driver, except those that are about to be bound, too.
pub(super) fn require_viable(
    host: &Host,
    function: &Function,
    group: &Group,
    to_bind: &[PciAddress],
) -> Result<(), SetupError> {
    let members = foreign_members(host, group, to_bind)?;
    if members.is_empty() {
        return Ok(());
    }
    Err(Refusal::ForeignMembers { address: function.address(), group: group.number, members }.into())
}

/// Returns the members that prevent a process from using the group. As in the kernel, bridges and unbound functions do not.
pub(super) fn foreign_members(
    host: &Host,
    group: &Group,
    to_bind: &[PciAddress],
) -> Result<Vec<String>, SetupError> {
    let mut foreign = Vec::new();
    for &address in group.members.iter().filter(|address| !to_bind.contains(address)) {
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
            foreign.push(format!("{name} (not a PCI function)"));
        }
    }
    Ok(foreign)
}
