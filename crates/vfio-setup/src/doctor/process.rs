//! Checks of what this user, in this process, may do.

use super::{Check, Patient, function};
use crate::SetupError;
use crate::accounts::{self, Capability};
use crate::hugepages::{PageSize, Pool};
use crate::kernel::Owner;
use crate::mode::{self, Mode};
use crate::status;

pub(super) fn check(patient: &Patient, checks: &mut Vec<Check>) -> Result<(), SetupError> {
    match patient.mode {
        None => checks.push(Check::skipped("permission", "there is no node yet")),
        Some(mode) => {
            let node = mode::node(mode, &patient.function)?.unwrap_or_default();
            checks.push(permission(patient, "permission", &node)?);
            checks.push(permission(patient, "shared node", mode::shared_node(mode))?);
        }
    }
    if patient.mode == Some(Mode::NoIommu) {
        checks.push(capabilities(patient));
    } else {
        checks.push(memlock(patient)?);
    }
    checks.push(hugepages(patient)?);
    Ok(())
}

fn permission(patient: &Patient, name: &'static str, node: &str) -> Result<Check, SetupError> {
    let owner = match patient.host.kernel().owner(&patient.host.path(node)) {
        Ok(owner) => owner,
        Err(error) => return Ok(Check::bad(name, format!("/{node}: {error}"), function::bind(patient, ""))),
    };
    let group = accounts::group_name(patient.host, owner.gid);
    let user = accounts::user_name(patient.host, owner.uid);
    let found = format!("/{node} is user {user}'s, group {group}'s, mode {:04o}", owner.mode);
    if may_open(patient, owner) {
        return Ok(Check::good(name, found));
    }
    let remedy = if owner.mode & 0o060 != 0o060 || owner.gid == 0 {
        function::bind(patient, "")
    } else if patient.identity.joined_later(patient.host, owner.gid)? {
        format!("newgrp {group}   # or log in again: the group was joined after this login")
    } else {
        let user = patient.identity.name.as_deref().unwrap_or("$USER");
        format!("sudo usermod -aG {group} {user}   # then log in again")
    };
    Ok(Check::bad(name, format!("{found}: not this user's"), remedy))
}

/// Whether the process may read and write, as the kernel decides it from owner and mode.
fn may_open(patient: &Patient, owner: Owner) -> bool {
    let identity = &patient.identity;
    let bits = if identity.uid == owner.uid {
        owner.mode >> 6
    } else if identity.groups.contains(&owner.gid) {
        owner.mode >> 3
    } else {
        owner.mode
    };
    bits & 6 == 6 || identity.has(Capability::DacOverride)
}

fn capabilities(patient: &Patient) -> Check {
    const NAME: &str = "capabilities";
    let needed = [
        (Capability::SysRawio, "CAP_SYS_RAWIO (to open a group without an IOMMU)"),
        (Capability::SysAdmin, "CAP_SYS_ADMIN (to learn physical addresses)"),
    ];
    let missing: Vec<_> =
        needed.iter().filter(|(c, _)| !patient.identity.has(*c)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Check::good(NAME, "CAP_SYS_RAWIO, CAP_SYS_ADMIN");
    }
    let remedy =
        "run it as root, or give the program both: sudo setcap cap_sys_rawio,cap_sys_admin+ep PROGRAM";
    Check::bad(NAME, format!("missing: {}", missing.join(", ")), remedy)
}

fn memlock(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "memlock";
    let need = patient.options.memory;
    let limit = status::memlock(patient.host)?;
    let asked = format!("{} MiB are asked for (--memory)", need >> 20);
    if patient.identity.has(Capability::IpcLock) {
        return Ok(Check::good(NAME, "CAP_IPC_LOCK: no limit"));
    }
    Ok(match limit.map(|limit| limit.parse::<u64>()) {
        None => Check::skipped(NAME, "the kernel does not say"),
        // `unlimited`.
        Some(Err(_)) => Check::good(NAME, "no limit"),
        Some(Ok(bytes)) if bytes >= need => {
            Check::good(NAME, format!("{} MiB may be locked, {asked}", bytes >> 20))
        }
        Some(Ok(bytes)) => Check::bad(
            NAME,
            format!("{} MiB may be locked, {asked}", bytes >> 20),
            "ulimit -l unlimited if it lets you; else `sudo vfio-setup persist` and log in again; for a service LimitMEMLOCK=infinity",
        ),
    })
}

fn hugepages(patient: &Patient) -> Result<Check, SetupError> {
    const NAME: &str = "hugepages";
    let node = patient.function.numa_node()?;
    let pool = |node| Pool { size: PageSize::Huge2M, node };
    // A node of the firmware's that the kernel has no pools for: the pools of the host count.
    let pool = if pool(node).total(patient.host).is_ok() { pool(node) } else { pool(None) };
    let (free, total) = (pool.free(patient.host).unwrap_or(0), pool.total(patient.host).unwrap_or(0));
    let need = patient.options.memory.div_ceil(PageSize::Huge2M.bytes());
    let found = format!("{free} of 2 MiB are free{}, {need} would hold what is asked for", pool.place());
    let enough = total + need.saturating_sub(free);
    let remedy = format!("sudo vfio-setup bind {} --hugepages 2M={enough}", patient.function.address());
    Ok(match patient.mode {
        _ if free >= need => Check::good(NAME, found),
        Some(Mode::NoIommu) => Check::bad(NAME, found, format!("{remedy} --no-iommu")),
        _ => Check::note(NAME, format!("{found}; the rest comes in small pages"), remedy),
    })
}
