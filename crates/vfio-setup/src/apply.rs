//! Applying a plan: each write is read back, and a failure reverts the steps before it.

use super::kernel::Owner;
use super::plan::{Plan, needs_owner};
use super::select::VFIO;
use super::step::{Action, Expect, Ownership, Write};
use super::{Host, SetupError, claims, mode};
use std::path::{Path, PathBuf};
use xdma::card::PciAddress;

/// A change that reverts a step.
enum Undo {
    Write(Write),
    Owner(PathBuf, Owner),
}

impl Plan {
    /// Applies the plan. Returns notes for the administrator.
    ///
    /// # Errors
    ///
    /// A step failed or had no effect. The steps before it were reverted, or are listed.
    pub fn apply(&self, host: &Host) -> Result<Vec<String>, SetupError> {
        let (mut undo, mut notes) = (Vec::new(), Vec::new());
        if self.steps.is_empty() {
            return Ok(notes);
        }
        host.require_root()?;
        for step in &self.steps {
            let done = match &step.action {
                Action::Quiesce { function } => quiesce(host, *function).map(|note| notes.extend(note)),
                action => execute(host, action, &mut undo),
            };
            if let Err(reason) = done {
                let left = undo.iter().rev().filter_map(|undo| revert(host, undo).err()).collect();
                return Err(SetupError::Failed { step: step.describe(host), reason, left });
            }
            if let Action::Write { write: Write { expect: Expect::Not(address, _), .. }, .. } = &step.action {
                notes.extend(claims::note_on_returned(host, &host.sysfs().function(*address)?)?);
            }
        }
        Ok(notes)
    }
}

/// Quiesces a card. If that fails, returns a note, and the caller still returns the function to the kernel.
///
/// # Errors
///
/// Quiescing did not finish in time. The function must then not be returned, because the kernel cannot unbind a function that
/// this process still holds.
fn quiesce(host: &Host, address: PciAddress) -> Result<Option<String>, String> {
    let function = host.sysfs().function(address).map_err(SetupError::from);
    let reason = match function.and_then(|function| mode::modes(host, &function)) {
        Err(error) => error.to_string(),
        Ok(modes) if modes.is_empty() => "there is no node for it in /dev/vfio".into(),
        Ok(modes) => match host.kernel().quiesce(address, &modes) {
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Err(error.to_string()),
            Err(error) => error.to_string(),
        },
    };
    Ok(Some(format!(
        "{address} was returned without being quiesced: {reason}. If its driver's transfers time out, reload the card's image or reboot"
    )))
}

/// Executes a step. How to revert it is recorded first, because the step may fail after a partial change.
fn execute(host: &Host, action: &Action, undo: &mut Vec<Undo>) -> Result<(), String> {
    match action {
        Action::LoadVfio => {
            host.kernel().load_module(VFIO).map_err(|error| error.to_string())?;
            let there = host.path(&format!("sys/bus/pci/drivers/{VFIO}")).is_dir();
            if there { Ok(()) } else { Err("the module was loaded, but vfio-pci did not appear".into()) }
        }
        // These change nothing that could be reverted.
        Action::Wait(time) => {
            host.kernel().sleep(*time);
            Ok(())
        }
        Action::Quiesce { function } => quiesce(host, *function).map(drop),
        Action::Write { write, undo: back } => {
            // `undo` is processed from the end, which restores the order of `back`.
            undo.extend(back.iter().rev().cloned().map(Undo::Write));
            write_and_check(host, write)
        }
        Action::OwnNodes { function, owner } => {
            host.kernel().settle();
            for node in nodes(host, *function)? {
                set_owner(host, &node, *owner, undo)?;
            }
            Ok(())
        }
        Action::OwnShared { node, owner } => match needs_owner(host, node, *owner) {
            Ok(true) => set_owner(host, node, *owner, undo),
            Ok(false) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
    }
}

fn write_and_check(host: &Host, write: &Write) -> Result<(), String> {
    let written = host.kernel().write(&write.path, &write.text);
    // A successful write is not enough: the kernel may ignore a request, or fulfil it only in part.
    match (verify(host, write), written) {
        (Ok(()), Ok(())) => Ok(()),
        (_, Err(error)) => Err(explain(&write.path, &error)),
        (Err(reason), Ok(())) => Err(reason),
    }
}

fn explain(path: &Path, error: &std::io::Error) -> String {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    if missing && path.ends_with("enable_unsafe_noiommu_mode") {
        return "this kernel does not support no-IOMMU mode (CONFIG_VFIO_NOIOMMU); use another kernel, or a machine with an IOMMU".into();
    }
    error.to_string()
}

/// Checks that a write had its effect. The error describes the actual state.
fn verify(host: &Host, write: &Write) -> Result<(), String> {
    match &write.expect {
        Expect::Text(text) => match file(&write.path)? {
            seen if seen == *text => Ok(()),
            seen => Err(format!("the file contains `{seen}` afterwards")),
        },
        Expect::AtLeast(count, what) => match file(&write.path)?.parse::<u64>() {
            Ok(seen) if seen >= *count => Ok(()),
            seen => Err(format!(
                "the kernel provided {} of {count} {what}, because free memory is scarce or fragmented: request fewer, or reserve them at boot (option --hugepages of `vfio-setup persist`, or the kernel command line)",
                seen.unwrap_or(0)
            )),
        },
        Expect::Override(address, wanted) => {
            let seen = host.sysfs().function(*address).and_then(|f| f.driver_override());
            match seen.map_err(|error| error.to_string())? {
                seen if seen == *wanted => Ok(()),
                seen => Err(format!("the override is {} afterwards", named(seen.as_deref()))),
            }
        }
        Expect::Driver(address, wanted) => match driver(host, *address)? {
            seen if seen == *wanted => Ok(()),
            seen => Err(format!(
                "{address} is {} afterwards, expected {}; the kernel log (`dmesg`) may show the reason",
                seen.map_or_else(|| "not bound".into(), |driver| format!("bound to {driver}")),
                named(wanted.as_deref())
            )),
        },
        Expect::Not(address, unwanted) => match driver(host, *address)? {
            Some(seen) if seen == *unwanted => {
                let why = host.sysfs().function(*address).map(|function| claims::explain(host, &function));
                Err(format!("{unwanted} took {address} again{}", why.unwrap_or_default()))
            }
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

/// Returns the nodes of a function that is bound to `vfio-pci`.
fn nodes(host: &Host, address: PciAddress) -> Result<Vec<PathBuf>, String> {
    let function = host.sysfs().function(address).map_err(|error| error.to_string())?;
    let group = function.iommu_group().map_err(|error| error.to_string())?;
    let group =
        group.ok_or_else(|| format!("{address} has no IOMMU group, although it is bound to {VFIO}"))?;
    let mut nodes = vec![host.path(&format!("dev/vfio/{}", group.node()))];
    let device = function.vfio_device().map_err(|error| error.to_string())?;
    nodes.extend(device.map(|device| host.path(&format!("dev/vfio/devices/{device}"))));
    Ok(nodes)
}

/// Returns whether a function is already bound and its nodes already have this owner.
pub(super) fn is_owned(host: &Host, address: PciAddress, owner: Ownership) -> bool {
    let has = |node: &PathBuf| host.kernel().owner(node).is_ok_and(|now| now == owner.applied(now));
    driver(host, address).is_ok_and(|driver| driver.as_deref() == Some(VFIO))
        && nodes(host, address).is_ok_and(|nodes| nodes.iter().all(has))
}

fn set_owner(host: &Host, node: &Path, owner: Ownership, undo: &mut Vec<Undo>) -> Result<(), String> {
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

/// Reverts a change, if it was made. The error describes what the administrator must do by hand.
fn revert(host: &Host, undo: &Undo) -> Result<(), String> {
    match undo {
        Undo::Write(write) => {
            if verify(host, write).is_ok() {
                return Ok(());
            }
            write_and_check(host, write).map_err(|reason| format!("{write}: {reason}"))
        }
        Undo::Owner(node, owner) => {
            let back = match host.kernel().owner(node) {
                // The node has disappeared with its driver.
                Err(_) => Ok(()),
                Ok(now) if now == *owner => Ok(()),
                Ok(_) => host.kernel().set_owner(node, *owner),
            };
            back.map_err(|error| format!("owner {owner} of {}: {error}", node.display()))
        }
    }
}
