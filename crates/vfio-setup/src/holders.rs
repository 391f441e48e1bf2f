//! Processes that use a function: they have one of its nodes open, or its registers mapped.
//!
//! File names prove nothing: in a private mount namespace, any user can create a file with the name of a card's registers, and `O_PATH`
//! opens any node without permission. The evidence is what the kernel reports about an open file: its device number, or the inode of
//! one of the function's files in an instance of sysfs.

use super::kernel::{FileId, FileKind};
use super::usage::{Use, Uses, names_function, under};
use super::{Host, SetupError, host};
use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// Time limit for the list of mappings of one process. A stuck process that has mapped files of its own FUSE file system can keep that
/// list locked.
const LIST_LIMIT: Duration = Duration::from_secs(2);
/// Time limit for the lists of all processes together, since one user can have thousands of stuck processes.
const TOTAL_LIMIT: Duration = Duration::from_secs(6);
/// Time limit for each further list after the total limit is used up.
const LATE_LIMIT: Duration = Duration::from_millis(5);
/// Maximum number of doubtful processes that are named.
const MAX_DOUBTFUL: usize = 8;

/// The files of a function.
struct FunctionFiles {
    address: PciAddress,
    /// Paths of its nodes.
    names: BTreeSet<String>,
    /// Device numbers of its nodes, such as `240:0`, each with whether it is a block device.
    numbers: BTreeSet<(bool, String)>,
    /// Inodes of its register files, which are the same in every instance of sysfs.
    inodes: BTreeSet<u64>,
    /// Device of the sysfs in which this process sees them.
    sysfs: BTreeSet<(u32, u32)>,
}

/// Relation of an open or mapped file to a function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Relation {
    /// The file belongs to the function.
    Certain,
    /// The file has the name of one of the function's files.
    NameOnly,
    None,
}

impl FunctionFiles {
    fn of(host: &Host, function: &Function) -> Result<Self, SetupError> {
        let address = function.address();
        let mut files = Self {
            address,
            names: BTreeSet::new(),
            numbers: BTreeSet::new(),
            inodes: BTreeSet::new(),
            sysfs: BTreeSet::new(),
        };
        for (class, block) in [("sys/dev/char", false), ("sys/dev/block", true)] {
            for number in under(host, class, address)? {
                let event = host.text(&format!("{class}/{number}/uevent"))?.unwrap_or_default();
                let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="));
                files.names.extend(name.map(|name| format!("/dev/{name}")));
                files.numbers.insert((block, number));
            }
        }
        if let Some(group) = function.iommu_group()? {
            // The node of the group is not below the function in sysfs.
            let number = host.text(&format!("sys/class/vfio/{}/dev", group.node()))?;
            files.numbers.extend(number.map(|number| (false, number)));
            files.names.insert(format!("/dev/vfio/{}", group.node()));
        }
        let directory = format!("sys/bus/pci/devices/{address}");
        for name in host.names(&directory)?.iter().filter(|name| is_register_file(name)) {
            if let Ok(id) = host.kernel().identify(&host.path(&format!("{directory}/{name}"))) {
                files.inodes.insert(id.inode);
                files.sysfs.insert(id.device);
            }
        }
        Ok(files)
    }

    /// Returns the relation of a file to the function, according to its identity, or else its name. `is_sysfs` returns whether a device
    /// is another instance of sysfs.
    fn relation(
        &self,
        id: Option<FileId>,
        name: &str,
        is_sysfs: impl FnOnce((u32, u32)) -> bool,
    ) -> Relation {
        if id.is_some_and(|id| self.has_number(id)) {
            return Relation::Certain;
        }
        let of_sysfs = |id: FileId| self.sysfs.contains(&id.device) || is_sysfs(id.device);
        if id.is_some_and(|id| id.kind == FileKind::Other && self.inodes.contains(&id.inode) && of_sysfs(id))
        {
            return Relation::Certain;
        }
        if self.has_name(name) { Relation::NameOnly } else { Relation::None }
    }

    fn has_number(&self, id: FileId) -> bool {
        let block = id.kind == FileKind::Block;
        let (major, minor) = id.number;
        id.kind != FileKind::Other && self.numbers.contains(&(block, format!("{major}:{minor}")))
    }

    fn has_name(&self, name: &str) -> bool {
        let path = Path::new(name);
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let registers =
            path.starts_with("/sys") && names_function(path, self.address) && is_register_file(file);
        registers || self.names.contains(name)
    }
}

/// Returns whether a file gives access to registers, such as `resource0` and `resource0_wc`. `resource` is only text, and readable for
/// all users.
fn is_register_file(name: &str) -> bool {
    name.strip_prefix("resource").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Returns the processes that have a node of a function open, or its registers mapped, except for this process.
///
/// # Errors
///
/// A file of the host cannot be read.
pub(super) fn of(host: &Host, function: &Function) -> Result<Uses, SetupError> {
    let files = FunctionFiles::of(host, function)?;
    let (mut certain, mut doubtful) = (BTreeSet::new(), BTreeSet::new());
    let budget = TimeBudget::new();
    for name in host.numbers("proc")? {
        let Ok(pid) = name.parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let process = Process { host, files: &files, budget: &budget, pid, instances: OnceCell::new() };
        let mut found = process.descriptors();
        match process.mappings() {
            Some(mappings) => found.extend(mappings),
            None => _ = doubtful.insert(format!("{} could not be examined", process.name())),
        }
        for (relation, node) in found {
            match relation {
                Relation::Certain => _ = certain.insert(Use::Open { pid, command: process.command(), node }),
                Relation::NameOnly => {
                    let node = node.escape_debug();
                    doubtful.insert(format!("{} has another file open that is named {node}", process.name()));
                }
                Relation::None => {}
            }
        }
    }
    Ok(Uses { certain: certain.into_iter().collect(), doubtful: shortened(doubtful) })
}

/// Shortens a list of doubtful uses, since one user can fake any number of them.
fn shortened(doubtful: BTreeSet<String>) -> Vec<String> {
    let more = doubtful.len().saturating_sub(MAX_DOUBTFUL);
    let mut named: Vec<_> = doubtful.into_iter().take(MAX_DOUBTFUL).collect();
    if more > 0 {
        named.push(format!("{more} more like these"));
    }
    named
}

/// A process, which may belong to another user.
struct Process<'a> {
    host: &'a Host,
    files: &'a FunctionFiles,
    budget: &'a TimeBudget,
    pid: u32,
    /// Devices of the instances of sysfs that the process sees, determined on first use.
    instances: OnceCell<BTreeSet<(u32, u32)>>,
}

impl Process<'_> {
    fn text(&self, file: &str) -> Option<String> {
        self.host.text(&format!("proc/{}/{file}", self.pid)).ok().flatten()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.host.path(&format!("proc/{}/{file}", self.pid))
    }

    fn command(&self) -> String {
        self.text("comm").unwrap_or_default()
    }

    /// Returns the process ID and name. A process can choose its name, so escape sequences for root's terminal are escaped.
    fn name(&self) -> String {
        format!("process {} ({})", self.pid, self.command().escape_debug())
    }

    /// Returns the open files that are related to the function. Files that are not visible, because the process has ended or belongs to
    /// another user, are left out.
    fn descriptors(&self) -> BTreeSet<(Relation, String)> {
        let numbers = self.host.numbers(&format!("proc/{}/fd", self.pid)).unwrap_or_default();
        let found = numbers.iter().filter_map(|number| {
            let link = self.path(&format!("fd/{number}"));
            let name = fs::read_link(&link).ok()?.display().to_string();
            let id = self.host.kernel().identify(&link).ok();
            let relation = self.files.relation(id, &name, |device| self.has_instance(device));
            match self.is_path_only(number, id) {
                _ if relation == Relation::None => None,
                Some(true) => None,
                Some(false) => Some((relation, name)),
                // The file was closed or replaced meanwhile. Any process can do so continuously, so this proves no use.
                None => Some((Relation::NameOnly, name)),
            }
        });
        found.collect()
    }

    /// Returns whether a file was opened with `O_PATH`, which needs no permission and does not open the device. Returns `None` if that
    /// cannot be determined.
    fn is_path_only(&self, descriptor: &str, id: Option<FileId>) -> Option<bool> {
        opened_as_path(&self.text(&format!("fdinfo/{descriptor}"))?, id?.inode)
    }

    /// Returns the mapped files that are related to the function; their descriptors may have been closed. Returns `None` if they cannot be
    /// listed.
    fn mappings(&self) -> Option<BTreeSet<(Relation, String)>> {
        let maps = self.path("maps");
        let maps = self.budget.run(move || list(&maps))?;
        let found = maps.lines().filter_map(|line| {
            let mapping = Mapping::parse(line)?;
            let link = self.path(&format!("map_files/{}", mapping.range));
            let id = self.host.kernel().identify(&link).unwrap_or(mapping.id);
            let relation = self.files.relation(Some(id), mapping.name, |device| self.has_instance(device));
            (relation != Relation::None).then(|| (relation, mapping.name.to_string()))
        });
        Some(found.collect())
    }

    fn has_instance(&self, device: (u32, u32)) -> bool {
        self.instances.get_or_init(|| self.instances()).contains(&device)
    }

    /// Returns the devices of the instances of sysfs that the process sees. A process in a container can see another instance. Users
    /// cannot fake the kernel's file system types or device numbers.
    fn instances(&self) -> BTreeSet<(u32, u32)> {
        let mounts = self.text("mountinfo").unwrap_or_default();
        let sysfs = mounts.lines().filter_map(|line| {
            let (fields, source) = line.split_once(" - ")?;
            let (major, minor) = fields.split(' ').nth(2)?.split_once(':')?;
            let is_sysfs = source.split(' ').next() == Some("sysfs");
            is_sysfs.then_some((major.parse().ok()?, minor.parse().ok()?))
        });
        sysfs.collect()
    }
}

/// Returns whether the file described by a text of `/proc/PID/fdinfo` was opened with `O_PATH`. Returns `None` if the text describes a
/// file with another inode, because the process replaced the descriptor between two reads. Linux before 5.14 reports no inode.
fn opened_as_path(info: &str, inode: u64) -> Option<bool> {
    const O_PATH: u32 = libc::O_PATH as u32;
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = u32::from_str_radix(field("flags:")?, 8).ok()?;
    let same = field("ino:").is_none_or(|seen| seen.parse() == Ok(inode));
    same.then_some(flags & O_PATH != 0)
}

/// A line of `/proc/PID/maps` for a file mapping.
struct Mapping<'a> {
    range: &'a str,
    id: FileId,
    name: &'a str,
}

impl<'a> Mapping<'a> {
    /// Parses a line such as `7f00-7f01 rw-s 00000000 00:15 99    /sys/...`.
    fn parse(line: &'a str) -> Option<Self> {
        let name = &line[line.find('/')?..];
        let mut fields = line.split_whitespace();
        let (range, device, inode) = (fields.next()?, fields.nth(2)?, fields.next()?);
        let (major, minor) = device.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        let device = (number(major)?, number(minor)?);
        let id = FileId { kind: FileKind::Other, device, inode: inode.parse().ok()?, number: (0, 0) };
        Some(Self { range, id, name })
    }
}

/// The remaining time to read the lists of mappings of all processes.
struct TimeBudget(Cell<Duration>);

impl TimeBudget {
    fn new() -> Self {
        Self(Cell::new(TOTAL_LIMIT))
    }

    /// Returns the result of `read`, or `None` if it took too long.
    fn run(&self, read: impl FnOnce() -> Option<String> + Send + 'static) -> Option<String> {
        let begin = Instant::now();
        let text = within(LIST_LIMIT.min(self.0.get()).max(LATE_LIMIT), read);
        if text.is_none() {
            self.0.set(self.0.get().saturating_sub(begin.elapsed()));
        }
        text
    }
}

/// Reads a list of mappings. Returns `None` if it is too long, and an empty text if it does not exist or this user may not read it.
fn list(path: &Path) -> Option<String> {
    match host::read(path) {
        Ok(text) => Some(text.unwrap_or_default()),
        Err(SetupError::Io { source, .. }) if source.kind() == io::ErrorKind::FileTooLarge => None,
        Err(_) => Some(String::new()),
    }
}

/// Runs `read` on another thread, since the kernel may never answer. Returns `None` after the time limit; a thread that is stuck then
/// lives until the process ends.
fn within(limit: Duration, read: impl FnOnce() -> Option<String> + Send + 'static) -> Option<String> {
    let (done, answered) = mpsc::sync_channel(1);
    // After the time limit, the receiver is gone.
    let reader = thread::Builder::new().spawn(move || _ = done.send(read()));
    reader.ok().and_then(|_| answered.recv_timeout(limit).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = "7f00-7f01 rw-s 00001000 fd:1a 18446744073709551615    /sys/a b/resource0 (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.range, mapping.name), ("7f00-7f01", "/sys/a b/resource0 (deleted)"));
        assert_eq!((mapping.id.device, mapping.id.inode), ((0xfd, 0x1a), u64::MAX));
        for other in [
            "",
            "7f00-7f01 rw-p 00000000 00:00 0",
            "7f00-7f01 rw-p 00000000 00:00 0  [heap]",
            "/",
            "a b c d /",
        ] {
            assert!(Mapping::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn register_files() {
        assert!(is_register_file("resource0") && is_register_file("resource4_wc"));
        assert!(
            !is_register_file("resource") && !is_register_file("resource_x") && !is_register_file("config")
        );
    }

    #[test]
    fn flags_of_another_file_are_ignored() {
        let (opened, path) =
            ("pos:\t0\nflags:\t02100002\nmnt_id:\t9\nino:\t77\n", "flags:\t012100000\nino:\t77\n");
        assert_eq!((opened_as_path(opened, 77), opened_as_path(path, 77)), (Some(false), Some(true)));
        assert_eq!((opened_as_path(opened, 78), opened_as_path(path, 78)), (None, None));
        assert_eq!(
            opened_as_path("pos:\t0\nflags:\t02100002\nmnt_id:\t9\n", 5),
            Some(false),
            "an older kernel"
        );
        assert_eq!((opened_as_path("", 5), opened_as_path("flags:\t9\n", 5)), (None, None));
    }

    #[test]
    fn locked_lists_take_a_bounded_time() {
        let (budget, begin) = (TimeBudget::new(), Instant::now());
        for _ in 0..200 {
            let stuck = || loop {
                thread::park();
            };
            assert_eq!(budget.run(stuck), None);
        }
        assert!(begin.elapsed() < TOTAL_LIMIT * 2, "{:?}", begin.elapsed());
        assert_eq!(TimeBudget::new().run(|| Some("text".into())).as_deref(), Some("text"));
    }

    #[test]
    fn a_missing_list_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(list(&path).as_deref(), Some(""));
        std::fs::write(&path, "text\n").unwrap();
        assert_eq!(list(&path).as_deref(), Some("text"));
    }
}
