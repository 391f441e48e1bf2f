//! A step of a plan: one change, its reason, how to verify it, and how to revert it.

use super::kernel::Owner;
use super::{Host, accounts};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use xdma::card::PciAddress;

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The change.
    pub(super) action: Action,
    /// The reason for it.
    pub(super) why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Loads `vfio-pci` and its dependencies.
    LoadVfio,
    /// Writes a file of the kernel.
    Write { write: Write, undo: Vec<Write> },
    /// Waits.
    Wait(Duration),
    /// Opens the card through VFIO and closes it, which quiesces it even if a killed process left it active.
    Quiesce { function: PciAddress },
    /// Sets the owner of the nodes of a function, which may not exist before the earlier steps.
    OwnNodes { function: PciAddress, owner: Ownership },
    /// Sets the owner of `/dev/iommu` or `/dev/vfio/vfio`, which all functions share.
    OwnShared { node: PathBuf, owner: Ownership },
}

/// A write to a file of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub path: PathBuf,
    pub text: String,
    pub expect: Expect,
}

/// The state to verify after a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The file contains this text.
    Text(String),
    /// `driver_override` is this driver, or empty.
    Override(PciAddress, Option<String>),
    /// The file contains a number of at least this value; the text names what it counts.
    AtLeast(u64, String),
    /// The function is bound to this driver, or to none.
    Driver(PciAddress, Option<String>),
    /// The function is not bound to this driver.
    Not(PciAddress, &'static str),
}

/// The owner to set on nodes. `None` keeps the current value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Ownership {
    /// Returns the owner and mode of a node after the change. The mode grants access to a group only if one was named, and
    /// never to other users.
    pub fn applied(self, now: Owner) -> Owner {
        let mode = if self.gid.is_some() { 0o660 } else { 0o600 };
        Owner { uid: self.uid.unwrap_or(now.uid), gid: self.gid.unwrap_or(now.gid), mode }
    }

    fn text(self, host: &Host) -> String {
        let user =
            self.uid.map_or_else(String::new, |id| format!("user {}, ", accounts::user_name(host, id)));
        match self.gid {
            Some(id) => format!("{user}group {}, mode 0660", accounts::group_name(host, id)),
            None => format!("{user}mode 0600"),
        }
    }
}

impl Step {
    /// Describes the change, where possible as a shell command.
    pub fn describe(&self, host: &Host) -> String {
        match &self.action {
            Action::LoadVfio => "modprobe vfio-pci".into(),
            Action::Write { write, .. } => {
                format!("echo {} > {}", quoted(&write.text), host.shown(&write.path))
            }
            Action::Wait(time) => format!("sleep {}", time.as_secs()),
            Action::Quiesce { function } => format!("open {function} through VFIO and close it"),
            Action::OwnNodes { function, owner } => {
                format!("{} of {function}: {}", nodes_of(host, *function), owner.text(host))
            }
            Action::OwnShared { node, owner } => format!("{}: {}", host.shown(node), owner.text(host)),
        }
    }

    /// Returns the reason for the change.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Returns the step in a form that can be serialized.
    pub fn report(&self, host: &Host) -> StepReport {
        let (kind, path, value) = match &self.action {
            Action::LoadVfio => ("load_module", None, Some("vfio-pci".to_string())),
            Action::Write { write, .. } => {
                ("write", Some(host.shown(&write.path)), Some(write.text.trim_end().to_string()))
            }
            Action::Wait(time) => ("wait", None, Some(time.as_secs().to_string())),
            Action::Quiesce { function } => ("quiesce", None, Some(function.to_string())),
            Action::OwnNodes { function, owner } => {
                ("own", Some(nodes_of(host, *function)), Some(owner.text(host)))
            }
            Action::OwnShared { node, owner } => ("own", Some(host.shown(node)), Some(owner.text(host))),
        };
        StepReport { kind, path, value, why: self.why.clone() }
    }
}

/// A step, as in the JSON output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// `load_module`, `write`, `wait`, `quiesce` or `own`.
    pub kind: &'static str,
    /// The file or node.
    pub path: Option<String>,
    /// The text to write, the module, the number of seconds, the function, or the owner.
    pub value: Option<String>,
    /// The reason for the change.
    pub why: String,
}

/// Names the nodes of a function as far as they are known. Their numbers are assigned when `vfio-pci` binds to the function.
fn nodes_of(host: &Host, address: PciAddress) -> String {
    let function = host.sysfs().function(address).ok();
    let group = function.as_ref().and_then(|f| f.iommu_group().ok().flatten());
    let device = function.and_then(|f| f.vfio_device().ok().flatten());
    let group =
        group.map_or_else(|| "/dev/vfio/noiommu-?".into(), |group| format!("/dev/vfio/{}", group.node()));
    let device = device.unwrap_or_else(|| "vfio?".into());
    format!("{group} (and /dev/vfio/devices/{device}, if the kernel has it)")
}

fn quoted(text: &str) -> String {
    match text.trim_end() {
        "" => "''".into(),
        plain => plain.into(),
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`echo {} | sudo tee {}`", quoted(&self.text), self.path.display())
    }
}
