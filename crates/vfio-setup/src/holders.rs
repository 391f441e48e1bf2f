//! Processes that have a function: a node of it open, or its registers mapped.
//!
//! Names prove nothing. In a mount namespace of their own, any user can have a file that is called like a card's registers, and
//! `O_PATH` opens any node without permission. What counts is what the kernel says of an open file: the number of a device, or
//! the inode of one of the function's files in a sysfs.

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
use xdma::bus::PciAddress;
use xdma::bus::sysfs::Function;

/// How long the kernel may take to list what a process has mapped. One that is stuck, with memory of a file system of its own,
/// may keep that list locked.
const LIST: Duration = Duration::from_secs(2);
/// How long it may take for all processes together, as one user may have thousands that are stuck.
const ALL_LISTS: Duration = Duration::from_secs(6);
/// What each of them gets after that.
const LATE_LIST: Duration = Duration::from_millis(5);
/// Doubtful processes that are named.
const NAMED: usize = 8;

/// Files of a function.
struct Files {
    address: PciAddress,
    /// How its nodes are called.
    names: BTreeSet<String>,
    /// Numbers of its nodes, as `240:0`, with whether they are block devices.
    numbers: BTreeSet<(bool, String)>,
    /// Inodes of its register files, the same in every instance of sysfs.
    inodes: BTreeSet<u64>,
    /// The file system of these, where this process sees them.
    sysfs: BTreeSet<(u32, u32)>,
}

/// What an open file or a mapping is to a function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Relation {
    /// One of its files.
    Held,
    /// It is called like one.
    Alike,
    Other,
}

impl Files {
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
            // The group's node is no child of the function.
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

    /// What a file is to the function, by what the kernel says of it, and by its name where that says nothing. `is_sysfs` knows the
    /// devices of further instances of sysfs.
    fn relation(
        &self,
        id: Option<FileId>,
        name: &str,
        is_sysfs: impl FnOnce((u32, u32)) -> bool,
    ) -> Relation {
        if id.is_some_and(|id| self.has_number(id)) {
            return Relation::Held;
        }
        let of_sysfs = |id: FileId| self.sysfs.contains(&id.device) || is_sysfs(id.device);
        if id.is_some_and(|id| id.kind == FileKind::Other && self.inodes.contains(&id.inode) && of_sysfs(id))
        {
            return Relation::Held;
        }
        if self.has_name(name) { Relation::Alike } else { Relation::Other }
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

/// `resource0`, `resource0_wc`. `resource`, which everybody may read, is only text.
fn is_register_file(name: &str) -> bool {
    name.strip_prefix("resource").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Processes that have a node of a function open, or its registers mapped. This process is not counted.
///
/// # Errors
///
/// A file that should be there cannot be read.
pub(super) fn of(host: &Host, function: &Function) -> Result<Uses, SetupError> {
    let files = Files::of(host, function)?;
    let (mut held, mut doubtful) = (BTreeSet::new(), BTreeSet::new());
    let patience = Patience::new();
    for name in host.numbers("proc")? {
        let Ok(pid) = name.parse::<u32>() else { continue };
        if pid == std::process::id() {
            continue;
        }
        let process = Process { host, files: &files, patience: &patience, pid, instances: OnceCell::new() };
        let mut found = process.descriptors();
        match process.mappings() {
            Some(mappings) => found.extend(mappings),
            None => _ = doubtful.insert(format!("{} could not be examined", process.name())),
        }
        for (relation, node) in found {
            match relation {
                Relation::Held => _ = held.insert(Use::Open { pid, command: process.command(), node }),
                Relation::Alike => {
                    let node = node.escape_debug();
                    doubtful.insert(format!(
                        "{} has a file called {node}, which is another file",
                        process.name()
                    ));
                }
                Relation::Other => {}
            }
        }
    }
    Ok(Uses { certain: held.into_iter().collect(), doubtful: shortened(doubtful) })
}

/// The first few: one user can make up any number.
fn shortened(doubtful: BTreeSet<String>) -> Vec<String> {
    let more = doubtful.len().saturating_sub(NAMED);
    let mut named: Vec<_> = doubtful.into_iter().take(NAMED).collect();
    if more > 0 {
        named.push(format!("{more} more like these"));
    }
    named
}

/// A process as another user may have made it.
struct Process<'a> {
    host: &'a Host,
    files: &'a Files,
    patience: &'a Patience,
    pid: u32,
    /// The devices of the instances of sysfs that it sees, once they were looked for.
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

    /// A process calls itself what it likes: root's terminal must not obey.
    fn name(&self) -> String {
        format!("process {} ({})", self.pid, self.command().escape_debug())
    }

    /// Open files that have to do with the function. A process may end, or be another user's: what cannot be seen is left out.
    fn descriptors(&self) -> BTreeSet<(Relation, String)> {
        let numbers = self.host.numbers(&format!("proc/{}/fd", self.pid)).unwrap_or_default();
        let found = numbers.iter().filter_map(|number| {
            let link = self.path(&format!("fd/{number}"));
            let name = fs::read_link(&link).ok()?.display().to_string();
            let id = self.host.kernel().identify(&link).ok();
            let relation = self.files.relation(id, &name, |device| self.has_instance(device));
            match self.is_path_only(number, id) {
                _ if relation == Relation::Other => None,
                Some(true) => None,
                Some(false) => Some((relation, name)),
                // It was closed or replaced since, which everybody can do all the time.
                None => Some((Relation::Alike, name)),
            }
        });
        found.collect()
    }

    /// Whether a file was opened as a path (`O_PATH`), which opens nothing and which everybody may do.
    /// `None` if that cannot be known.
    fn is_path_only(&self, descriptor: &str, id: Option<FileId>) -> Option<bool> {
        opened_as_path(&self.text(&format!("fdinfo/{descriptor}"))?, id?.inode)
    }

    /// Mapped files that have to do with the function: the process may have closed them since. `None` if they cannot be listed.
    fn mappings(&self) -> Option<BTreeSet<(Relation, String)>> {
        let maps = self.path("maps");
        let maps = self.patience.wait(move || list(&maps))?;
        let found = maps.lines().filter_map(|line| {
            let mapping = Mapping::parse(line)?;
            let link = self.path(&format!("map_files/{}", mapping.range));
            let id = self.host.kernel().identify(&link).unwrap_or(mapping.id);
            let relation = self.files.relation(Some(id), mapping.name, |device| self.has_instance(device));
            (relation != Relation::Other).then(|| (relation, mapping.name.to_string()))
        });
        Some(found.collect())
    }

    fn has_instance(&self, device: (u32, u32)) -> bool {
        self.instances.get_or_init(|| self.instances()).contains(&device)
    }

    /// The instances of sysfs that the process sees: one in a container has its own. The kernel says which file systems are
    /// sysfs, and nobody can make up the device of one.
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

/// Whether the file in a text of `/proc/PID/fdinfo` was opened as a path. `None` if that text is about another file than the one with
/// this inode: the process may replace the descriptor between two reads. Linux before 5.14 reports no inode.
fn opened_as_path(info: &str, inode: u64) -> Option<bool> {
    const O_PATH: u32 = libc::O_PATH as u32;
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = u32::from_str_radix(field("flags:")?, 8).ok()?;
    let same = field("ino:").is_none_or(|seen| seen.parse() == Ok(inode));
    same.then_some(flags & O_PATH != 0)
}

/// A line of `/proc/PID/maps` with a file.
struct Mapping<'a> {
    range: &'a str,
    id: FileId,
    name: &'a str,
}

impl<'a> Mapping<'a> {
    /// `7f00-7f01 rw-s 00000000 00:15 99    /sys/...`
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

/// How long lists of mappings may still take.
struct Patience(Cell<Duration>);

impl Patience {
    fn new() -> Self {
        Self(Cell::new(ALL_LISTS))
    }

    /// What a read finds; `None` if it took too long.
    fn wait(&self, read: impl FnOnce() -> Option<String> + Send + 'static) -> Option<String> {
        let begin = Instant::now();
        let text = within(LIST.min(self.0.get()).max(LATE_LIST), read);
        if text.is_none() {
            self.0.set(self.0.get().saturating_sub(begin.elapsed()));
        }
        text
    }
}

/// Reads a list of the kernel's: `None` if it is too long. What is not there, or not for this user to see, is empty.
fn list(path: &Path) -> Option<String> {
    match host::read(path) {
        Ok(text) => Some(text.unwrap_or_default()),
        Err(SetupError::Io { source, .. }) if source.kind() == io::ErrorKind::FileTooLarge => None,
        Err(_) => Some(String::new()),
    }
}

/// Does what the kernel may never answer: `None` then. The thread of a read that is stuck ends with the process.
fn within(limit: Duration, read: impl FnOnce() -> Option<String> + Send + 'static) -> Option<String> {
    let (done, answered) = mpsc::sync_channel(1);
    // Nobody may wait any more.
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
    fn flags_of_another_file_say_nothing() {
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
    fn any_number_of_lists_that_are_locked_ends() {
        let (patience, begin) = (Patience::new(), Instant::now());
        for _ in 0..200 {
            let stuck = || loop {
                thread::park();
            };
            assert_eq!(patience.wait(stuck), None);
        }
        assert!(begin.elapsed() < ALL_LISTS * 2, "{:?}", begin.elapsed());
        assert_eq!(Patience::new().wait(|| Some("text".into())).as_deref(), Some("text"));
    }

    #[test]
    fn what_is_not_there_has_nothing_mapped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(list(&path).as_deref(), Some(""));
        std::fs::write(&path, "text\n").unwrap();
        assert_eq!(list(&path).as_deref(), Some("text"));
    }
}
