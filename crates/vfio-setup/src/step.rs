//! A step: one change, why it is made, how its success shows, and how it is taken back.

use super::kernel::Owner;
use super::{Host, accounts};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use xdma::bus::PciAddress;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub(super) action: Action,
    /// Why.
    pub(super) why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Loads `vfio-pci` and what it needs.
    LoadVfio,
    /// Writes a file of the kernel's.
    Write { write: Write, undo: Vec<Write> },
    /// Brings the card to rest, whatever a process that was killed has left: opens it by VFIO, and closes it.
    Quiesce { function: PciAddress },
    /// Says who may open the nodes of a function, which may not be there before the steps above.
    OwnNodes { function: PciAddress, owner: Ownership },
    /// Says who may open `/dev/iommu` or `/dev/vfio/vfio`, which all functions share.
    OwnShared { node: PathBuf, owner: Ownership },
}

/// One write to a file of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub path: PathBuf,
    pub text: String,
    pub expect: Expect,
}

/// What has to be so after a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The file reads so.
    Text(String),
    /// `driver_override` says so.
    Override(PciAddress, Option<String>),
    /// The file reads a number at least as large; the text names what is counted.
    AtLeast(u64, String),
    /// The function has this driver, or none.
    Driver(PciAddress, Option<String>),
    /// The function has any driver but this, or none.
    Not(PciAddress, &'static str),
}

/// Who gets nodes. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ownership {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Ownership {
    /// Never for the world, and for a group only where one was named.
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
    /// What is done, in the words that an administrator could type.
    pub fn describe(&self, host: &Host) -> String {
        match &self.action {
            Action::LoadVfio => "modprobe vfio-pci".into(),
            Action::Write { write, .. } => {
                format!("echo {} > {}", quoted(&write.text), host.shown(&write.path))
            }
            Action::Quiesce { function } => format!("open {function} by VFIO, and close it"),
            Action::OwnNodes { function, owner } => {
                format!("{} of {function}: {}", nodes_of(host, *function), owner.text(host))
            }
            Action::OwnShared { node, owner } => format!("{}: {}", host.shown(node), owner.text(host)),
        }
    }

    /// Why it is done.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The step for programs.
    pub fn report(&self, host: &Host) -> StepReport {
        let (kind, path, value) = match &self.action {
            Action::LoadVfio => ("load_module", None, Some("vfio-pci".to_string())),
            Action::Write { write, .. } => {
                ("write", Some(host.shown(&write.path)), Some(write.text.trim_end().to_string()))
            }
            Action::Quiesce { function } => ("quiesce", None, Some(function.to_string())),
            Action::OwnNodes { function, owner } => {
                ("own", Some(nodes_of(host, *function)), Some(owner.text(host)))
            }
            Action::OwnShared { node, owner } => ("own", Some(host.shown(node)), Some(owner.text(host))),
        };
        StepReport { kind, path, value, why: self.why.clone() }
    }
}

/// A step for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// `load_module`, `write`, `quiesce` or `own`.
    pub kind: &'static str,
    /// The file.
    pub path: Option<String>,
    /// What is written, the module's name, or the function.
    pub value: Option<String>,
    /// Why.
    pub why: String,
}

/// The nodes as far as they are known: numbers are given when `vfio-pci` takes the function.
fn nodes_of(host: &Host, address: PciAddress) -> String {
    let function = host.sysfs().function(address).ok();
    let group = function.as_ref().and_then(|f| f.iommu_group().ok().flatten());
    let device = function.and_then(|f| f.vfio_device().ok().flatten());
    let group =
        group.map_or_else(|| "/dev/vfio/noiommu-?".into(), |group| format!("/dev/vfio/{}", group.node()));
    let device = device.unwrap_or_else(|| "vfio?".into());
    format!("{group} (and /dev/vfio/devices/{device}, where the kernel has it)")
}

fn quoted(text: &str) -> String {
    match text.trim_end() {
        "" => "''".into(),
        plain => plain.into(),
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`echo {} > {}`", quoted(&self.text), self.path.display())
    }
}
