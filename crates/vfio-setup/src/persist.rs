//! The same at every boot: files for udev, kmod, systemd and PAM, and their removal.

use super::hugepages::Pool;
use super::plan::{self, BindOptions};
use super::{Host, Refusal, SetupError, accounts, files, ids::Model, select};
use serde::Serialize;
use xdma::bus::sysfs::Function;

/// Gives the nodes of known cards to the group `fpga`. The same text is in the package's directory `udev`.
pub const RULES: &str = include_str!("../udev/60-xdma.rules");

const OWNERSHIP: &str = "etc/udev/rules.d/60-xdma.rules";
const BINDING: &str = "etc/udev/rules.d/61-xdma-bind.rules";
const MODULES: &str = "etc/modules-load.d/xdma.conf";
const NO_IOMMU: &str = "etc/modprobe.d/xdma-noiommu.conf";
const HUGEPAGES: &str = "etc/tmpfiles.d/xdma-hugepages.conf";
const LIMITS: &str = "etc/security/limits.d/60-xdma.conf";
/// All files that are ever written.
const PATHS: [&str; 6] = [OWNERSHIP, BINDING, MODULES, NO_IOMMU, HUGEPAGES, LIMITS];

/// A file and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file.
    pub path: String,
    /// What happens to it.
    pub kind: Kind,
    /// What it says, for files that are there afterwards.
    pub text: Option<String>,
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is new.
    Created,
    /// It was ours, and says something else now.
    Replaced,
    /// It says that already.
    Unchanged,
    /// It was ours and goes.
    Removed,
    /// Somebody changed it: it stays.
    Left,
}

/// Changes of files, and what to know besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The files.
    pub files: Vec<Change>,
    /// What the administrator should know.
    pub notes: Vec<String>,
}

/// What `persist` is going to write for functions, so that `bind` with the same options happens at each boot.
///
/// # Errors
///
/// [`Refusal`], also if a file is there that is not ours.
pub fn persist(
    host: &Host,
    named: &[xdma::bus::PciAddress],
    options: &BindOptions,
) -> Result<Changes, SetupError> {
    let functions = select::functions(host, named, options.any)?;
    plan::check_groups(host, &functions, options.no_iommu)?;
    let group = accounts::group(host, options.group.as_deref().unwrap_or("fpga"))?.name;
    let mut wanted = vec![
        (OWNERSHIP, RULES.replace("fpga", &group)),
        (BINDING, binding(&functions, &group)?),
        (MODULES, "vfio-pci\n".to_string()),
        (LIMITS, limits(&group)),
    ];
    if options.no_iommu {
        wanted.push((NO_IOMMU, "options vfio enable_unsafe_noiommu_mode=1\n".into()));
    }
    if !options.hugepages.0.is_empty() {
        wanted.push((HUGEPAGES, hugepages(host, &functions, options)?));
    }
    let files = PATHS.iter().map(|path| change(host, path, wanted.iter().find(|w| w.0 == *path)));
    let files = files.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    Ok(Changes { files, notes: notes(host, options) })
}

fn change(host: &Host, path: &str, wanted: Option<&(&str, String)>) -> Result<Option<Change>, SetupError> {
    let text = wanted.map(|(_, body)| files::sealed(body));
    let now = files::load(host, path)?;
    let kind = match (&now, &text) {
        (None, None) => return Ok(None),
        (None, Some(_)) => Kind::Created,
        (Some(now), Some(text)) if now == text => Kind::Unchanged,
        (Some(now), _) if !files::is_ours(now) => return Err(Refusal::NotOurs(format!("/{path}")).into()),
        (Some(_), Some(_)) => Kind::Replaced,
        (Some(_), None) => Kind::Removed,
    };
    Ok(Some(Change { path: format!("/{path}"), kind, text }))
}

/// What `undo` is going to remove: what `persist` wrote, and nobody changed since.
///
/// # Errors
///
/// A file cannot be read.
pub fn undo(host: &Host) -> Result<Changes, SetupError> {
    let mut changes = Changes { files: Vec::new(), notes: Vec::new() };
    for path in PATHS {
        let Some(text) = files::load(host, path)? else { continue };
        let kind = if files::is_ours(&text) { Kind::Removed } else { Kind::Left };
        changes.files.push(Change { path: format!("/{path}"), kind, text: None });
    }
    let removes = changes.files.iter().any(|file| file.kind == Kind::Removed);
    if removes {
        changes.notes.push("cards stay bound until the next boot, or `vfio-setup unbind`".into());
    }
    Ok(changes)
}

impl Changes {
    /// Writes and removes files. A failure takes back what was done.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn apply(&self, host: &Host) -> Result<(), SetupError> {
        if self.files.iter().all(|file| matches!(file.kind, Kind::Unchanged | Kind::Left)) {
            return Ok(());
        }
        host.require_root()?;
        let load = |file: &Change| files::load(host, &file.path[1..]);
        let before = self.files.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        for (index, file) in self.files.iter().enumerate() {
            if let Err(error) = file.apply(host) {
                let done = self.files[..index].iter().zip(&before).rev();
                let left = done.filter_map(|(file, text)| file.restore(host, text.as_deref()).err());
                let left = left.map(|error| error.to_string()).collect();
                return Err(SetupError::Failed { step: file.path.clone(), reason: error.to_string(), left });
            }
        }
        Ok(())
    }

    /// Files that stay because somebody changed them.
    pub fn left(&self) -> impl Iterator<Item = &Change> {
        self.files.iter().filter(|file| file.kind == Kind::Left)
    }
}

impl Change {
    fn apply(&self, host: &Host) -> Result<(), SetupError> {
        let path = &self.path[1..];
        match (self.kind, &self.text) {
            (Kind::Created | Kind::Replaced, Some(text)) => files::store(host, path, text),
            (Kind::Removed, _) => files::remove(host, path),
            _ => Ok(()),
        }
    }

    fn restore(&self, host: &Host, text: Option<&str>) -> Result<(), SetupError> {
        let path = &self.path[1..];
        match (self.kind, text) {
            (Kind::Unchanged | Kind::Left, _) => Ok(()),
            (_, Some(text)) => files::store(host, path, text),
            (_, None) => files::remove(host, path),
        }
    }
}

/// Rules that bind functions as they appear, at boot or when an image is loaded, whichever module came first.
fn binding(functions: &[Function], group: &str) -> Result<String, SetupError> {
    let (mut lines, mut owners) = (String::new(), String::new());
    for function in functions {
        let (address, vendor, device) = (function.address(), function.vendor()?, function.device()?);
        lines += &format!(
            "KERNEL==\"{address}\", ATTR{{vendor}}==\"{vendor:#06x}\", ATTR{{device}}==\"{device:#06x}\", GOTO=\"xdma_bind\"\n"
        );
        if !Model::of(vendor, device).is_card() {
            owners += &owner_rules(&address.to_string(), group);
        }
    }
    Ok(format!(
        "# Binds these functions to vfio-pci when they appear.
{owners}
ACTION!=\"add\", GOTO=\"xdma_bind_end\"
SUBSYSTEM!=\"pci\", GOTO=\"xdma_bind_end\"
{lines}GOTO=\"xdma_bind_end\"

LABEL=\"xdma_bind\"
# No other driver takes it from here on; one that was first lets go.
ATTR{{driver_override}}=\"vfio-pci\"
DRIVER==\"?*\", DRIVER!=\"vfio-pci\", ATTR{{driver/unbind}}=\"$kernel\"
# Loading the module takes the function; where it was loaded before, the probe does.
IMPORT{{builtin}}=\"kmod load vfio-pci\"
DRIVER!=\"vfio-pci\", ATTR{{subsystem/drivers_probe}}=\"$kernel\"

LABEL=\"xdma_bind_end\"
"
    ))
}

/// Ownership of the nodes of a function whose identifiers the rules do not know.
fn owner_rules(address: &str, group: &str) -> String {
    let owned = format!("GROUP=\"{group}\", MODE=\"0660\"\n");
    let member = |number: &str| format!("TEST==\"/sys/kernel/iommu_groups/{number}/devices/{address}\"");
    format!(
        "SUBSYSTEM==\"vfio\", KERNEL==\"[0-9]*\", {}, {owned}SUBSYSTEM==\"vfio\", KERNEL==\"noiommu-[0-9]*\", {}, {owned}SUBSYSTEM==\"vfio-dev\", KERNELS==\"{address}\", {owned}",
        member("%k"),
        member("%n"),
    )
}

fn limits(group: &str) -> String {
    // A number alone would be read as a name.
    let range =
        if group.bytes().all(|b| b.is_ascii_digit()) { format!("{group}:{group}") } else { group.into() };
    format!(
        "# Memory that a card uses is locked. This is for logins; a service needs LimitMEMLOCK=infinity in its unit.\n@{range} - memlock unlimited\n"
    )
}

fn hugepages(host: &Host, functions: &[Function], options: &BindOptions) -> Result<String, SetupError> {
    let node = plan::page_node(functions, options)?;
    let mut text = "# Read by systemd-tmpfiles at boot. The kernel gives fewer pages where memory is in pieces already.\n".to_string();
    for &(size, count) in &options.hugepages.0 {
        let pool = Pool { size, node };
        // That there are such pages at all.
        pool.total(host)?;
        text += &format!("w /{} - - - - {count}\n", pool.file());
    }
    Ok(text)
}

fn notes(host: &Host, options: &BindOptions) -> Vec<String> {
    let mut notes = vec![
        "limits.d is for logins: a service needs `LimitMEMLOCK=infinity` in its unit".to_string(),
        "these files act at the next boot; for now there is `vfio-setup bind`".into(),
    ];
    let built_in = host.path("sys/module/vfio").is_dir() && !host.path("sys/module/vfio/initstate").exists();
    if options.no_iommu && built_in {
        notes.push(
            "vfio is built into this kernel, which reads no modprobe.d: add `vfio.enable_unsafe_noiommu_mode=1` to its command line".into(),
        );
    }
    for (size, count) in &options.hugepages.0 {
        if size.name() == "1G" {
            notes.push(format!(
                "1 GiB pages are safest on the kernel's command line, before memory falls into pieces: `hugepagesz=1G hugepages={count}`"
            ));
        }
    }
    if options.no_iommu {
        notes.push(plan::NO_IOMMU_RISK.into());
    }
    notes
}
