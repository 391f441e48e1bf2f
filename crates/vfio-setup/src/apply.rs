//! Carries a plan out: each step is read back, and a failure takes back what was done before it.

use super::kernel::Owner;
use super::plan::{Plan, needs_owner};
use super::select::VFIO;
use super::step::{Action, Expect, Ownership, Write};
use super::{Host, SetupError, mode};
use std::path::{Path, PathBuf};
use xdma::bus::PciAddress;

/// What takes a step back.
enum Undo {
    Write(Write),
    Owner(PathBuf, Owner),
}

impl Plan {
    /// Carries it out. Returns what the administrator should know of how it went.
    ///
    /// # Errors
    ///
    /// A step failed, or did not do what it should have; what was done before was undone, or is named.
    pub fn apply(&self, host: &Host) -> Result<Vec<String>, SetupError> {
        let (mut undo, mut notes) = (Vec::new(), Vec::new());
        if self.steps.is_empty() {
            return Ok(notes);
        }
        host.require_root()?;
        for step in &self.steps {
            let done = match &step.action {
                Action::Quiesce { function } => quiesce(host, *function).map(|note| notes.extend(note)),
                action => carry_out(host, action, &mut undo),
            };
            if let Err(reason) = done {
                let left = undo.iter().rev().filter_map(|undo| take_back(host, undo).err()).collect();
                return Err(SetupError::Failed { step: step.describe(host), reason, left });
            }
        }
        Ok(notes)
    }
}

/// Brings a card to rest. That this cannot be done is noted: the kernel is to have the function back in any case.
///
/// # Errors
///
/// It does not end. As long as this process has the function, the kernel would not end either to take it back.
fn quiesce(host: &Host, address: PciAddress) -> Result<Option<String>, String> {
    let modes = host.sysfs().function(address).map_err(SetupError::from);
    let reason = match modes.and_then(|function| mode::modes(host, &function)) {
        Err(error) => error.to_string(),
        Ok(modes) if modes.is_empty() => "no node in /dev/vfio leads to it".into(),
        Ok(modes) => match host.kernel().quiesce(address, &modes) {
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Err(error.to_string()),
            Err(error) => error.to_string(),
        },
    };
    Ok(Some(format!(
        "{address} was given back as it was found, not brought to rest: {reason}. If its driver's transfers time out, load the card's image again, or reset the machine"
    )))
}

/// Does a step. What takes it back is noted first: a step may fail when it is half done.
fn carry_out(host: &Host, action: &Action, undo: &mut Vec<Undo>) -> Result<(), String> {
    match action {
        Action::LoadVfio => {
            host.kernel().load_module(VFIO).map_err(|error| error.to_string())?;
            let there = host.path(&format!("sys/bus/pci/drivers/{VFIO}")).is_dir();
            if there { Ok(()) } else { Err("it was loaded, and there is no driver `vfio-pci`".into()) }
        }
        // It changes nothing that could be taken back.
        Action::Quiesce { function } => quiesce(host, *function).map(drop),
        Action::Write { write, undo: back } => {
            // Taken back from the end: the order of `back` is kept.
            undo.extend(back.iter().rev().cloned().map(Undo::Write));
            write_and_check(host, write)
        }
        Action::OwnNodes { function, owner } => {
            host.kernel().settle();
            for node in nodes(host, *function)? {
                own(host, &node, *owner, undo)?;
            }
            Ok(())
        }
        Action::OwnShared { node, owner } => match needs_owner(host, node, *owner) {
            Ok(true) => own(host, node, *owner, undo),
            Ok(false) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn write_and_check(host: &Host, write: &Write) -> Result<(), String> {
    let written = host.kernel().write(&write.path, &write.text);
    // The read-back decides: the kernel may do less than it was told, and say nothing.
    match (holds(host, write), written) {
        (Ok(()), Ok(())) => Ok(()),
        (_, Err(error)) => Err(explain(&write.path, &error)),
        (Err(seen), Ok(())) => Err(seen),
    }
}

fn explain(path: &Path, error: &std::io::Error) -> String {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    if missing && path.ends_with("enable_unsafe_noiommu_mode") {
        return "this kernel has no no-IOMMU mode (CONFIG_VFIO_NOIOMMU); use another kernel, or a machine with an IOMMU".into();
    }
    error.to_string()
}

/// Whether what a write is to bring about is so; if not, what is.
fn holds(host: &Host, write: &Write) -> Result<(), String> {
    match &write.expect {
        Expect::Text(text) => match file(&write.path)? {
            seen if seen == *text => Ok(()),
            seen => Err(format!("it reads `{seen}` afterwards")),
        },
        Expect::AtLeast(count, what) => match file(&write.path)?.parse::<u64>() {
            Ok(seen) if seen >= *count => Ok(()),
            seen => Err(format!(
                "the kernel gave {} of {count} {what}: free memory is short or in pieces; ask for fewer, or reserve them at boot (`persist --hugepages`, or the kernel's command line)",
                seen.unwrap_or(0)
            )),
        },
        Expect::Override(address, wanted) => {
            let seen = host.sysfs().function(*address).and_then(|f| f.driver_override());
            match seen.map_err(|error| error.to_string())? {
                seen if seen == *wanted => Ok(()),
                seen => Err(format!("it names {} afterwards", named(seen.as_deref()))),
            }
        }
        Expect::Driver(address, wanted) => match driver(host, *address)? {
            seen if seen == *wanted => Ok(()),
            seen => Err(format!(
                "{address} has {} afterwards, not {}; `dmesg` may say why",
                named(seen.as_deref()),
                named(wanted.as_deref())
            )),
        },
        Expect::Not(address, unwanted) => match driver(host, *address)? {
            Some(seen) if seen == *unwanted => Err(format!("{unwanted} has {address} still")),
            _ => Ok(()),
        },
    }
}

fn file(path: &Path) -> Result<String, String> {
    match super::host::read(path) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("{} is gone afterwards", path.display())),
        Err(error) => Err(error.to_string()),
    }
}

fn driver(host: &Host, address: PciAddress) -> Result<Option<String>, String> {
    host.sysfs().function(address).and_then(|function| function.driver()).map_err(|error| error.to_string())
}

fn named(driver: Option<&str>) -> String {
    driver.map_or_else(|| "no driver".into(), |driver| format!("driver {driver}"))
}

/// The nodes of a function that `vfio-pci` has.
fn nodes(host: &Host, address: PciAddress) -> Result<Vec<PathBuf>, String> {
    let function = host.sysfs().function(address).map_err(|error| error.to_string())?;
    let group = function.iommu_group().map_err(|error| error.to_string())?;
    let group = group.ok_or_else(|| format!("{address} has no IOMMU group, though {VFIO} has it"))?;
    let mut nodes = vec![host.path(&format!("dev/vfio/{}", group.node()))];
    let device = function.vfio_device().map_err(|error| error.to_string())?;
    nodes.extend(device.map(|device| host.path(&format!("dev/vfio/devices/{device}"))));
    Ok(nodes)
}

/// Whether a function is bound and its nodes have this owner already.
pub(super) fn is_owned(host: &Host, address: PciAddress, owner: Ownership) -> bool {
    let has = |node: &PathBuf| host.kernel().owner(node).is_ok_and(|now| now == owner.applied(now));
    driver(host, address).is_ok_and(|driver| driver.as_deref() == Some(VFIO))
        && nodes(host, address).is_ok_and(|nodes| nodes.iter().all(has))
}

fn own(host: &Host, node: &Path, owner: Ownership, undo: &mut Vec<Undo>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", host.shown(node));
    let now = host.kernel().owner(node).map_err(failed)?;
    let wanted = owner.applied(now);
    if now == wanted {
        return Ok(());
    }
    undo.push(Undo::Owner(node.to_path_buf(), now));
    host.kernel().set_owner(node, wanted).map_err(failed)?;
    match host.kernel().owner(node).map_err(failed)? {
        seen if seen == wanted => Ok(()),
        seen => Err(format!("{} has {seen} afterwards, not {wanted}", host.shown(node))),
    }
}

/// Takes a change back, if it was made at all. An error is what an administrator has to do by hand.
fn take_back(host: &Host, undo: &Undo) -> Result<(), String> {
    match undo {
        Undo::Write(write) => {
            if holds(host, write).is_ok() {
                return Ok(());
            }
            write_and_check(host, write).map_err(|reason| format!("{write}: {reason}"))
        }
        Undo::Owner(node, owner) => {
            let back = match host.kernel().owner(node) {
                // It went with its driver.
                Err(_) => Ok(()),
                Ok(now) if now == *owner => Ok(()),
                Ok(_) => host.kernel().set_owner(node, *owner),
            };
            back.map_err(|error| format!("owner {owner} of {}: {error}", node.display()))
        }
    }
}
