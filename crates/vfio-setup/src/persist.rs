//! Configuration files for udev, kmod, systemd and PAM that do the same as `bind` at each boot, and their removal.

use super::binding::{self, Targets};
use super::hugepages::Pool;
use super::plan::{self, BindOptions};
use super::{Host, Refusal, SetupError, accounts, advice, claims, files, udev};
use serde::Serialize;
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// udev rules that give the nodes of known cards to the group `fpga`, taken from the package's `udev` directory.
pub const RULES: &str = include_str!("../udev/60-xdma.rules");

/// The group of the card's users, unless another is requested.
pub const GROUP: &str = "fpga";

pub(super) const OWNERSHIP: &str = "etc/udev/rules.d/60-xdma.rules";
pub(super) const BINDING: &str = "etc/udev/rules.d/61-xdma-bind.rules";
const MODULES: &str = "etc/modules-load.d/xdma.conf";
pub(super) const NO_IOMMU: &str = "etc/modprobe.d/xdma-noiommu.conf";
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

/// Plans the files that make every boot repeat `bind` with these options. If there is no card yet, cards that appear later are
/// bound by their IDs. This makes it possible to prepare the image of a machine.
///
/// # Errors
///
/// [`Refusal`], including [`Refusal::NotOurs`] for an existing file that `persist` did not write.
pub fn persist(host: &Host, named: &[PciAddress], options: &BindOptions) -> Result<Changes, SetupError> {
    let targets = Targets::select(host, named, options.any)?;
    plan::check_presence(host, &targets.present)?;
    plan::check_groups(host, &targets.present, options.no_iommu)?;
    let group = accounts::group(host, options.group.as_deref().unwrap_or(GROUP))?.name;
    let mut notes = targets.notes();
    notes.extend(check_group(host, named, options, &group)?);
    for function in &targets.present {
        notes.extend(claims::notes_on_bind(host, function)?);
    }
    notes.extend(notes_on(host, named, options, &group));
    let mut wanted = vec![
        (OWNERSHIP, RULES.replace(GROUP, &group)),
        (BINDING, binding::text(&targets, &group)?),
        (MODULES, "vfio-pci\n".to_string()),
        (LIMITS, limits(&group)),
    ];
    if options.no_iommu {
        wanted.push((NO_IOMMU, "options vfio enable_unsafe_noiommu_mode=1\n".into()));
    }
    if !options.hugepages.0.is_empty() {
        wanted.push((HUGEPAGES, hugepages(host, &targets.present, options)?));
    }
    let files = PATHS.iter().map(|path| change(host, path, wanted.iter().find(|w| w.0 == *path)));
    let files = files.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    Ok(Changes { files, notes })
}

/// Checks that udev accepts the group. Returns a note if only some versions do.
///
/// # Errors
///
/// [`Refusal::GroupIgnored`] if the host's version does not.
fn check_group(
    host: &Host,
    named: &[PciAddress],
    options: &BindOptions,
    group: &str,
) -> Result<Option<String>, SetupError> {
    let Some(unfit) = udev::check(host, group)? else { return Ok(None) };
    let better = BindOptions { group: Some(udev::system_group(host).into()), ..options.clone() };
    let remedy = advice::persist_with(host, named, &better);
    if unfit.is_ignored {
        return Err(Refusal::GroupIgnored { found: unfit.found, remedy }.into());
    }
    Ok(Some(format!("{}; use a system group: `{remedy}`", unfit.found)))
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

/// Returns the functions and options with which `persist` wrote the installed files. Files that do not exist are left out, and
/// so is the group.
///
/// # Errors
///
/// A file cannot be read.
pub(super) fn installed(host: &Host) -> Result<(Vec<PciAddress>, BindOptions), SetupError> {
    let load = |path: &str| Ok::<_, SetupError>(files::load(host, path)?.unwrap_or_default());
    let (named, any) = binding::named(&load(BINDING)?);
    let mut options = BindOptions { any, no_iommu: !load(NO_IOMMU)?.is_empty(), ..BindOptions::default() };
    for line in load(HUGEPAGES)?.lines() {
        let mut fields = line.strip_prefix("w ").unwrap_or_default().split_whitespace();
        let pool = fields.next().and_then(Pool::of_file);
        if let (Some(pool), Some(Ok(count))) = (pool, fields.last().map(str::parse)) {
            options.hugepages.0.push((pool.size, count));
            options.node = pool.node;
        }
    }
    Ok((named, options))
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
        changes.notes.push("cards stay bound until the next boot, or until `sudo vfio-setup unbind`".into());
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

fn limits(group: &str) -> String {
    // pam_limits would interpret a plain number as a name.
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
        // Fails if the kernel has no pages of this size. The files of a system that is not running have no /sys.
        if host.is_system() || host.path("sys/kernel").is_dir() {
            pool.total(host)?;
        }
        text += &format!("w /{} - - - - {count}\n", pool.file());
    }
    Ok(text)
}

fn notes_on(host: &Host, named: &[PciAddress], options: &BindOptions, group: &str) -> Vec<String> {
    let bind = advice::bind_with(host, named, &BindOptions { group: Some(group.into()), ..options.clone() });
    let mut notes = vec![
        "limits.d applies to logins only; a service needs `LimitMEMLOCK=infinity` in its unit".to_string(),
        format!(
            "these files take effect at the next boot, or when a card appears; to bind a card that is there now, type `{bind}`"
        ),
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
