//! Checks of a host that do not depend on a function, so that the host can be prepared before there is a card.

use super::{Check, DoctorOptions, Verdict, process, remedy};
use crate::accounts::{self, Identity};
use crate::select::VFIO;
use crate::{Host, SetupError, persist, udev};

pub(super) fn check(host: &Host, options: &DoctorOptions, checks: &mut Vec<Check>) -> Result<(), SetupError> {
    let identity = Identity::read(host)?;
    let missing = process::pages(host, options, None)?.missing();
    let iommu = iommu(host, missing)?;
    // Without an IOMMU, the user must first decide whether cards may access all memory.
    let undecided = iommu.verdict == Verdict::Bad;
    checks.push(iommu);
    checks.push(driver(host)?);
    checks.push(users(host, &identity)?);
    const DECIDE: &str = "see IOMMU above";
    let all = || if undecided { DECIDE.into() } else { remedy::persist_host(host, missing, false) };
    let rules = rules(host, all)?;
    // One command persists everything that is missing.
    let more = if rules.is_some() { all() } else { "see udev rules above".into() };
    checks.push(
        rules.unwrap_or_else(|| {
            Check::note("udev rules", "none: cards are not bound when they appear", all())
        }),
    );
    checks.push(process::memlock(host, options, &identity, || more.clone())?);
    let pages = |count| match remedy::persisted_pages(host, count) {
        true => "they are reserved at the next boot".into(),
        false => more.clone(),
    };
    checks.push(process::hugepages(host, options, None, None, pages)?);
    Ok(())
}

/// Returns the check that there is a card.
pub(super) fn no_card() -> Check {
    Check::bad(
        "cards",
        "no XDMA card was found by its PCI IDs",
        "echo 1 | sudo tee /sys/bus/pci/rescan   # after its image was loaded; find a card with custom IDs with `vfio-setup status --all`, and name it",
    )
}

fn iommu(host: &Host, missing_pages: Option<u64>) -> Result<Check, SetupError> {
    const NAME: &str = "IOMMU";
    if !host.path("sys/class").is_dir() {
        return Ok(Check::skipped(NAME, "unknown: this system is not running"));
    }
    if !host.names("sys/class/iommu")?.is_empty() {
        return Ok(Check::good(NAME, "in use"));
    }
    if host.path(persist::NO_IOMMU).exists() {
        return Ok(Check::note(
            NAME,
            "none: the card will be able to access all memory of this machine",
            "use a machine with an IOMMU if possible",
        ));
    }
    Ok(Check::bad(
        NAME,
        "none is in use",
        format!(
            "enable VT-d or AMD-Vi in the firmware, and boot with `intel_iommu=on` on Intel; in a guest without an IOMMU (EC2): `{}`",
            remedy::persist_host(host, missing_pages, true)
        ),
    ))
}

fn driver(host: &Host) -> Result<Check, SetupError> {
    const NAME: &str = "driver";
    if host.path(&format!("sys/bus/pci/drivers/{VFIO}")).is_dir() {
        return Ok(Check::good(NAME, format!("{VFIO} is loaded")));
    }
    let releases = match host.text("proc/sys/kernel/osrelease")? {
        Some(release) => vec![release],
        None => host.names("lib/modules")?,
    };
    let lists = releases
        .iter()
        .flat_map(|r| ["modules.dep", "modules.builtin"].map(|f| format!("lib/modules/{r}/{f}")));
    let mut known = false;
    for list in lists {
        let Some(text) = host.text(&list)? else { continue };
        known = true;
        // A line begins with the path of a module. In the list of built-in modules, the path is the whole line.
        let is_driver = |line: &str| {
            line.split(':')
                .next()
                .and_then(|path| path.rsplit('/').next())
                .is_some_and(|name| name.starts_with("vfio-pci.ko"))
        };
        if text.lines().any(is_driver) {
            return Ok(Check::good(NAME, format!("this kernel has {VFIO}; `bind` loads it")));
        }
    }
    Ok(match known {
        false => Check::skipped(NAME, format!("{VFIO} is not loaded, and the kernel's modules are unknown")),
        true => Check::bad(
            NAME,
            format!("this kernel has no {VFIO}"),
            "install all modules of this kernel (on Ubuntu: sudo apt-get install \"linux-modules-extra-$(uname -r)\"), or use a kernel with CONFIG_VFIO_PCI",
        ),
    })
}

fn users(host: &Host, identity: &Identity) -> Result<Check, SetupError> {
    const NAME: &str = "group";
    let name = udev::persisted_group(host)?.unwrap_or_else(|| persist::GROUP.into());
    let Ok(group) = accounts::group(host, &name) else {
        return Ok(Check::bad(
            NAME,
            format!("there is no group {name}"),
            format!("sudo groupadd --system {name}"),
        ));
    };
    if identity.uid == 0 || identity.groups.contains(&group.id) {
        return Ok(Check::good(NAME, name));
    }
    let remedy = if identity.joined_later(host, group.id)? {
        format!("newgrp {name}   # or log in again, since you joined the group after this login")
    } else {
        let user = identity.name.as_deref().unwrap_or("\"$USER\"");
        format!("sudo usermod -aG {name} {user}   # then log in again")
    };
    Ok(Check::note(NAME, format!("this user is not in the group {name}"), remedy))
}

/// Checks the group of the rules that `persist` has installed. Returns `None` if there are no rules.
pub(super) fn rules(host: &Host, remedy: impl Fn() -> String) -> Result<Option<Check>, SetupError> {
    const NAME: &str = "udev rules";
    let Some(group) = udev::persisted_group(host)? else { return Ok(None) };
    let Some(unfit) = udev::check(host, &group)? else {
        return Ok(Some(Check::good(NAME, format!("for the group {group}"))));
    };
    Ok(Some(match unfit.is_ignored {
        true => Check::bad(NAME, unfit.found, remedy()),
        false => Check::note(NAME, unfit.found, remedy()),
    }))
}
