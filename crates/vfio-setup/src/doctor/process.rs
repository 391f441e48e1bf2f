//! Checks of the permissions and limits of this process.

use super::{Check, Context, DoctorOptions, remedy};
use crate::accounts::{self, Capability, Identity};
use crate::hugepages::{PageSize, Pool};
use crate::kernel::Owner;
use crate::mode::{self, Mode};
use crate::{Host, SetupError, status};
use xdma::unstable::bus::sysfs::Function;

/// Groups whose members can take over the machine. `doctor` never suggests joining them.
const POWERFUL: [&str; 10] =
    ["root", "wheel", "sudo", "admin", "adm", "docker", "lxd", "disk", "shadow", "libvirt"];

pub(super) fn check(context: &Context, checks: &mut Vec<Check>) -> Result<(), SetupError> {
    match context.mode {
        None => checks.push(Check::skipped("permission", "there is no node yet")),
        Some(mode) => {
            let node = mode::node(mode, &context.function)?.unwrap_or_default();
            checks.push(permission(context, "permission", &node)?);
            checks.push(permission(context, "shared node", mode::shared_node(mode))?);
        }
    }
    if context.mode == Some(Mode::NoIommu) {
        checks.push(capabilities(context));
    } else {
        checks.push(memlock(context.host, context.options, &context.identity, || remedy::persist(context))?);
    }
    let (host, function, options) = (context.host, Some(&context.function), context.options);
    let bind = |count| remedy::hugepages(context, count);
    checks.push(hugepages(host, options, function, context.mode, bind)?);
    Ok(())
}

fn permission(context: &Context, name: &'static str, node: &str) -> Result<Check, SetupError> {
    let owner = match context.host.kernel().owner(&context.host.path(node)) {
        Ok(owner) => owner,
        Err(error) => return Ok(Check::bad(name, format!("/{node}: {error}"), remedy::bind(context))),
    };
    let group = accounts::group_name(context.host, owner.gid);
    let user = accounts::user_name(context.host, owner.uid);
    let found = format!("/{node} has user {user}, group {group}, mode {:04o}", owner.mode);
    if may_open(context, owner) {
        return Ok(Check::good(name, found));
    }
    let is_powerful = owner.gid == 0 || POWERFUL.contains(&group.as_str());
    let remedy = if owner.mode & 0o060 != 0o060 || is_powerful {
        remedy::bind(context)
    } else if context.identity.joined_later(context.host, owner.gid)? {
        format!("newgrp {group}   # or log in again, since you joined the group after this login")
    } else {
        let user = context.identity.name.as_deref().unwrap_or("\"$USER\"");
        format!("sudo usermod -aG {group} {user}   # then log in again")
    };
    Ok(Check::bad(name, format!("{found}: no access for this user"), remedy))
}

/// Returns whether the process may read and write a node, by the kernel's rules for owner and mode.
fn may_open(context: &Context, owner: Owner) -> bool {
    let identity = &context.identity;
    let bits = if identity.uid == owner.uid {
        owner.mode >> 6
    } else if identity.groups.contains(&owner.gid) {
        owner.mode >> 3
    } else {
        owner.mode
    };
    bits & 6 == 6 || identity.has(Capability::DacOverride)
}

fn capabilities(context: &Context) -> Check {
    const NAME: &str = "capabilities";
    let needed = [
        (Capability::SysRawio, "CAP_SYS_RAWIO (to open a group without an IOMMU)"),
        (Capability::SysAdmin, "CAP_SYS_ADMIN (to read physical addresses)"),
    ];
    let missing: Vec<_> =
        needed.iter().filter(|(c, _)| !context.identity.has(*c)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Check::good(NAME, "CAP_SYS_RAWIO, CAP_SYS_ADMIN");
    }
    let remedy =
        "run the program as root, or give it both: sudo setcap cap_sys_rawio,cap_sys_admin+ep PROGRAM";
    Check::bad(NAME, format!("missing: {}", missing.join(", ")), remedy)
}

pub(super) fn memlock(
    host: &Host,
    options: &DoctorOptions,
    identity: &Identity,
    persist: impl Fn() -> String,
) -> Result<Check, SetupError> {
    const NAME: &str = "memlock";
    let need = options.memory;
    let limit = status::memlock(host)?;
    let needed = format!("{} MiB needed (--memory)", need >> 20);
    if identity.has(Capability::IpcLock) {
        return Ok(Check::good(NAME, "CAP_IPC_LOCK: no limit"));
    }
    Ok(match limit.map(|limit| limit.parse::<u64>()) {
        None => Check::skipped(NAME, "unknown"),
        // `unlimited`.
        Some(Err(_)) => Check::good(NAME, "no limit"),
        Some(Ok(bytes)) if bytes >= need => {
            Check::good(NAME, format!("{} MiB can be locked, {needed}", bytes >> 20))
        }
        Some(Ok(bytes)) => Check::bad(
            NAME,
            format!("{} MiB can be locked, {needed}", bytes >> 20),
            format!(
                "ulimit -l unlimited   # if that is not permitted: `{}`, then log in again as a member of the group; for a service: LimitMEMLOCK=infinity",
                persist()
            ),
        ),
    })
}

/// The hugepages of 2 MiB that a function, or the host, needs and has.
pub(super) struct Pages {
    pool: Pool,
    free: u64,
    total: u64,
    need: u64,
}

impl Pages {
    /// Returns how many pages the pool must have if it has too few.
    pub fn missing(&self) -> Option<u64> {
        (self.free < self.need).then(|| self.total + self.need - self.free)
    }
}

pub(super) fn pages(
    host: &Host,
    options: &DoctorOptions,
    function: Option<&Function>,
) -> Result<Pages, SetupError> {
    let node = function.map(Function::numa_node).transpose()?.flatten();
    let pool = |node| Pool { size: PageSize::Huge2M, node };
    // If the kernel has no pool for the node that the firmware reports, use the pool of the whole host.
    let pool = if pool(node).total(host).is_ok() { pool(node) } else { pool(None) };
    let (free, total) = (pool.free(host).unwrap_or(0), pool.total(host).unwrap_or(0));
    let need = options.memory.div_ceil(PageSize::Huge2M.bytes());
    Ok(Pages { pool, free, total, need })
}

/// Checks the hugepages. `remedy` returns the command that raises their number.
pub(super) fn hugepages(
    host: &Host,
    options: &DoctorOptions,
    function: Option<&Function>,
    mode: Option<Mode>,
    remedy: impl Fn(u64) -> String,
) -> Result<Check, SetupError> {
    const NAME: &str = "hugepages";
    let pages = pages(host, options, function)?;
    let Pages { pool, free, need, .. } = pages;
    let found = format!("{free} pages of 2 MiB are free{}, {need} needed (--memory)", pool.place());
    Ok(match (pages.missing(), mode) {
        (None, _) => Check::good(NAME, found),
        (Some(count), Some(Mode::NoIommu)) => Check::bad(NAME, found, remedy(count)),
        (Some(count), _) => {
            Check::note(NAME, format!("{found}; small pages are used instead"), remedy(count))
        }
    })
}
