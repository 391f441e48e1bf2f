//! Configuration files for udev, kmod, systemd and PAM that do the same as `bind` at each boot, and their removal.

use super::hugepages::Pool;
use super::plan::{self, BindOptions};
use super::{Host, Refusal, SetupError, accounts, files, select};
use serde::Serialize;
use xdma::regs::ids::Model;
use xdma::unstable::bus::sysfs::Function;

/// udev rules that give the nodes of known cards to the group `fpga`, taken from the package's `udev` directory.
pub const RULES: &str = include_str!("../udev/60-xdma.rules");

const OWNERSHIP: &str = "etc/udev/rules.d/60-xdma.rules";
const BINDING: &str = "etc/udev/rules.d/61-xdma-bind.rules";
const MODULES: &str = "etc/modules-load.d/xdma.conf";
const NO_IOMMU: &str = "etc/modprobe.d/xdma-noiommu.conf";
const HUGEPAGES: &str = "etc/tmpfiles.d/xdma-hugepages.conf";
const LIMITS: &str = "etc/security/limits.d/60-xdma.conf";
/// All files that `persist` can write.
const PATHS: [&str; 6] = [OWNERSHIP, BINDING, MODULES, NO_IOMMU, HUGEPAGES, LIMITS];

/// A change to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file.
    pub path: String,
    /// The kind of change.
    pub kind: ChangeKind,
    /// The new content, if the file exists afterwards.
    pub text: Option<String>,
}

/// The kind of change to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The file is new.
    Created,
    /// The file was written by `persist` earlier, and gets new content.
    Replaced,
    /// The file already has this content.
    Unchanged,
    /// The file was written by `persist`, and is removed.
    Removed,
    /// The file was edited, or not written by `persist`, and is kept.
    #[serde(rename = "left")]
    Kept,
}

/// Changes to files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The files.
    pub files: Vec<Change>,
    /// Notes for the administrator.
    pub notes: Vec<String>,
}

/// Plans the files that make every boot repeat `bind` with these options.
///
/// # Errors
///
/// [`Refusal`], including [`Refusal::NotOurs`] for an existing file that `persist` did not write.
pub fn persist(
    host: &Host,
    named: &[xdma::card::PciAddress],
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
        (None, Some(_)) => ChangeKind::Created,
        (Some(now), Some(text)) if now == text => ChangeKind::Unchanged,
        (Some(now), _) if !files::is_ours(now) => return Err(Refusal::NotOurs(format!("/{path}")).into()),
        (Some(_), Some(_)) => ChangeKind::Replaced,
        (Some(_), None) => ChangeKind::Removed,
    };
    Ok(Some(Change { path: format!("/{path}"), kind, text }))
}

/// Plans the removal of the files of `persist`. Files that were edited since are kept.
///
/// # Errors
///
/// A file cannot be read.
pub fn undo(host: &Host) -> Result<Changes, SetupError> {
    let mut changes = Changes { files: Vec::new(), notes: Vec::new() };
    for path in PATHS {
        let Some(text) = files::load(host, path)? else { continue };
        let kind = if files::is_ours(&text) { ChangeKind::Removed } else { ChangeKind::Kept };
        changes.files.push(Change { path: format!("/{path}"), kind, text: None });
    }
    let removes = changes.files.iter().any(|file| file.kind == ChangeKind::Removed);
    if removes {
        changes.notes.push("cards stay bound until the next boot, or until `vfio-setup unbind`".into());
    }
    Ok(changes)
}

impl Changes {
    /// Writes and removes the files. A failure reverts the earlier changes.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn apply(&self, host: &Host) -> Result<(), SetupError> {
        if self.files.iter().all(|file| matches!(file.kind, ChangeKind::Unchanged | ChangeKind::Kept)) {
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

    /// Returns the files that are kept because they were edited or not written by `persist`.
    pub fn kept(&self) -> impl Iterator<Item = &Change> {
        self.files.iter().filter(|file| file.kind == ChangeKind::Kept)
    }
}

impl Change {
    fn apply(&self, host: &Host) -> Result<(), SetupError> {
        let path = &self.path[1..];
        match (self.kind, &self.text) {
            (ChangeKind::Created | ChangeKind::Replaced, Some(text)) => files::store(host, path, text),
            (ChangeKind::Removed, _) => files::remove(host, path),
            _ => Ok(()),
        }
    }

    fn restore(&self, host: &Host, text: Option<&str>) -> Result<(), SetupError> {
        let path = &self.path[1..];
        match (self.kind, text) {
            (ChangeKind::Unchanged | ChangeKind::Kept, _) => Ok(()),
            (_, Some(text)) => files::store(host, path, text),
            (_, None) => files::remove(host, path),
        }
    }
}

/// Returns udev rules that bind functions when they appear, at boot or when an image is loaded, regardless of the order in which modules
/// are loaded.
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
# No other driver may bind from here on. A driver that was faster is unbound.
ATTR{{driver_override}}=\"vfio-pci\"
DRIVER==\"?*\", DRIVER!=\"vfio-pci\", ATTR{{driver/unbind}}=\"$kernel\"
# Loading the module binds the function. If the module was already loaded, the probe does.
IMPORT{{builtin}}=\"kmod load vfio-pci\"
DRIVER!=\"vfio-pci\", ATTR{{subsystem/drivers_probe}}=\"$kernel\"

LABEL=\"xdma_bind_end\"
"
    ))
}

/// Returns udev rules that give the group access to a function's VFIO nodes. They are for a function whose IDs are not in
/// [`RULES`].
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
    // pam_limits would read a plain number as a name.
    let range =
        if group.bytes().all(|b| b.is_ascii_digit()) { format!("{group}:{group}") } else { group.into() };
    format!(
        "# Memory that a card can access is locked. This applies to logins; a service needs LimitMEMLOCK=infinity in its unit.\n@{range} - memlock unlimited\n"
    )
}

fn hugepages(host: &Host, functions: &[Function], options: &BindOptions) -> Result<String, SetupError> {
    let node = plan::page_node(functions, options)?;
    let mut text = "# Applied by systemd-tmpfiles at boot. If memory is already fragmented, the kernel provides fewer pages.\n".to_string();
    for &(size, count) in &options.hugepages.0 {
        let pool = Pool { size, node };
        // Fails if the kernel has no pages of this size.
        pool.total(host)?;
        text += &format!("w /{} - - - - {count}\n", pool.file());
    }
    Ok(text)
}

fn notes(host: &Host, options: &BindOptions) -> Vec<String> {
    let mut notes = vec![
        "limits.d applies to logins only; a service needs `LimitMEMLOCK=infinity` in its unit".to_string(),
        "these files take effect at the next boot; to bind now, run `vfio-setup bind`".into(),
    ];
    let built_in = host.path("sys/module/vfio").is_dir() && !host.path("sys/module/vfio/initstate").exists();
    if options.no_iommu && built_in {
        notes.push(
            "vfio is built into this kernel, so modprobe.d has no effect: add `vfio.enable_unsafe_noiommu_mode=1` to the kernel command line".into(),
        );
    }
    for (size, count) in &options.hugepages.0 {
        if size.name() == "1G" {
            notes.push(format!(
                "reserving 1 GiB pages is most reliable on the kernel command line, before memory is fragmented: `hugepagesz=1G hugepages={count}`"
            ));
        }
    }
    if options.no_iommu {
        notes.push(plan::NO_IOMMU_RISK.into());
    }
    notes
}
