//! Checks of the function itself: they are the same for every user.

use super::{Check, Patient};
use crate::ids::Model;
use crate::mode::{self, Mode, UnknownMode};
use crate::select::{self, VFIO};
use crate::{SetupError, usage};

pub(super) fn check(patient: &Patient, checks: &mut Vec<Check>) -> Result<(), SetupError> {
    checks.push(identity(patient)?);
    checks.push(bars(patient)?);
    checks.push(link(patient)?);
    checks.push(driver(patient)?);
    checks.push(iommu(patient)?);
    checks.push(group(patient)?);
    checks.push(way(patient)?);
    checks.push(users(patient)?);
    Ok(())
}

fn identity(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "function";
    let (vendor, device) = (patient.function.vendor()?, patient.function.device()?);
    let id = format!("{vendor:04x}:{device:04x}");
    Ok(match Model::of(vendor, device) {
        Model::Card(name) => Check::good(NAME, format!("{id}, {name}")),
        Model::Empty => Check::bad(
            NAME,
            format!("{id}: an F1 card without an image"),
            "sudo fpga-load-local-image -S 0 -I agfi-...; sudo fpga-describe-local-image -S 0 -R -H",
        ),
        Model::Unknown => Check::note(
            NAME,
            format!("{id} is not known to be an XDMA card"),
            "that is fine for an image with identifiers of its own; opening it looks for the XDMA registers",
        ),
    })
}

fn bars(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "BARs";
    const LEAST: u64 = 0x8000;
    let bars = patient.function.bars()?;
    if bars.iter().any(|&size| size >= LEAST) {
        let sizes = bars.iter().enumerate().filter(|(_, size)| **size > 0);
        let sizes: Vec<_> = sizes.map(|(index, size)| format!("BAR{index} {} KiB", size >> 10)).collect();
        return Ok(Check::good(NAME, sizes.join(", ")));
    }
    let remedy = "echo 1 > /sys/bus/pci/devices/BDF/remove; echo 1 > /sys/bus/pci/rescan";
    let remedy = remedy.replace("BDF", &patient.function.address().to_string());
    Ok(Check::bad(NAME, "none has room for XDMA registers (32 KiB); is the design loaded?", remedy))
}

fn link(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "link";
    Ok(match patient.function.link()? {
        None => Check::skipped(NAME, "the kernel does not say"),
        Some(link) if link.is_degraded() => Check::note(
            NAME,
            format!("{}, the card is able to {}", link.now, link.most),
            "slower transfers; another slot, or seat the card anew",
        ),
        Some(link) => Check::good(NAME, link.now.to_string()),
    })
}

fn driver(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "driver";
    let found = match patient.function.driver()? {
        Some(driver) if driver == VFIO => return Ok(Check::good(NAME, driver)),
        Some(driver) => format!("{driver} has it"),
        None => "none has it".into(),
    };
    let remedy = match patient.function.iommu_group()? {
        Some(_) => bind(patient, ""),
        None => "see IOMMU below".into(),
    };
    Ok(Check::bad(NAME, found, remedy))
}

/// The command that binds, for somebody who wants to use the card without being root.
pub(super) fn bind(patient: &Patient, more: &str) -> String {
    let known =
        patient.function.vendor().and_then(|vendor| Ok(Model::of(vendor, patient.function.device()?)));
    let any = if known.is_ok_and(Model::is_card) { "" } else { " --any" };
    format!("sudo vfio-setup bind {}{any}{more} --group fpga", patient.function.address())
}

fn iommu(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "IOMMU";
    Ok(match patient.function.iommu_group()? {
        Some(group) if group.no_iommu => Check::note(
            NAME,
            "none: the card reaches all memory of this machine",
            "use a machine with an IOMMU where you can",
        ),
        Some(_) => Check::good(NAME, "the card reaches only what it is given"),
        None => Check::bad(
            NAME,
            "none is in use for this function",
            format!(
                "switch VT-d or AMD-Vi on in the firmware and boot with `intel_iommu=on`; in a guest without one (EC2): {}",
                bind(patient, " --no-iommu")
            ),
        ),
    })
}

fn group(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "group";
    let Some(group) = patient.function.iommu_group()? else {
        return Ok(Check::skipped(NAME, "there is none"));
    };
    let foreign = select::foreign_members(patient.host, &group, &[patient.function.address()])?;
    if foreign.is_empty() {
        return Ok(Check::good(NAME, format!("{}, with no foreign members", group.node())));
    }
    let remedy = "bind all members to vfio-pci if they are yours; else put the card into another slot";
    Ok(Check::bad(NAME, format!("{} also has {}", group.node(), foreign.join(", ")), remedy))
}

fn way(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "way";
    let modes = mode::modes(patient.host, &patient.function)?;
    let names: Vec<_> = modes.iter().map(Mode::to_string).collect();
    if patient.function.driver()?.as_deref() != Some(VFIO) {
        return Ok(Check::skipped(NAME, "there is none before vfio-pci has it"));
    }
    let asked = patient.options.mode.as_ref();
    Ok(match (patient.mode, asked) {
        (Some(Mode::NoIommu), _) => {
            Check::note(NAME, "noiommu, as XDMA_VFIO says", "only programs that you trust with all memory")
        }
        (Some(mode), Some(_)) => Check::good(NAME, format!("{mode}, as XDMA_VFIO says")),
        (Some(_), None) => Check::good(NAME, names.join(", then ")),
        (None, Some(Err(UnknownMode(asked)))) => Check::bad(
            NAME,
            format!("XDMA_VFIO is `{asked}`"),
            "unset XDMA_VFIO, or set it to cdev, type1 or noiommu",
        ),
        (None, Some(Ok(asked))) => {
            let there = if names.is_empty() { "none".into() } else { names.join(", ") };
            Check::bad(NAME, format!("XDMA_VFIO asks for {asked}, and there is {there}"), "unset XDMA_VFIO")
        }
        (None, None) if names.is_empty() => {
            Check::bad(NAME, "no node in /dev/vfio leads to it", bind(patient, ""))
        }
        (None, None) => Check::bad(
            NAME,
            "only noiommu, which is never taken without being told",
            "export XDMA_VFIO=noiommu   # trusts the card with all memory",
        ),
    })
}

fn users(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "users";
    let uses = usage::of(patient.host, &patient.function)?;
    if uses.certain.is_empty() && uses.doubtful.is_empty() {
        return Ok(Check::good(NAME, "no other process that this user can see has it"));
    }
    if uses.certain.is_empty() {
        let remedy = "look at that process if the card cannot be opened; any user can make such a file";
        return Ok(Check::note(NAME, uses.doubtful.join("; "), remedy));
    }
    let uses: Vec<_> = uses.certain.iter().map(ToString::to_string).collect();
    Ok(Check::bad(NAME, uses.join("; "), "end that first: a card has one user at a time"))
}
