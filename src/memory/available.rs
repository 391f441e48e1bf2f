//! How much memory can be allocated without triggering the kernel's OOM killer.
//!
//! Linux overcommits memory and kills a process when pages run out. DMA memory is populated in full when it is allocated, so a
//! request that is too large would get this or another process killed instead of failing.

#![deny(clippy::arithmetic_side_effects)]

use super::MemoryError;
use std::fs;
use std::path::{Path, PathBuf};

/// Available memory according to the tightest limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Available {
    bytes: u64,
    /// The limit itself, in bytes.
    total: u64,
    /// What imposes the limit.
    limit: String,
}

impl Available {
    /// Reads the limits from the files below `root`, which is `/` except in tests. `None` if `/proc/meminfo` does not report the
    /// available memory.
    pub fn read(root: &Path) -> Option<Self> {
        let machine = machine(&fs::read_to_string(root.join("proc/meminfo")).ok()?)?;
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let limits = groups.lines().flat_map(|line| hierarchy(root, line));
        limits.chain([machine]).min_by_key(|limit| limit.bytes)
    }

    /// Returns the memory to leave to the rest of the system: 1/64 of the total, at most 1 GiB.
    fn margin(&self) -> u64 {
        (self.total >> 6).min(1 << 30)
    }

    /// Checks that the next `more` bytes of an allocation of `len` bytes are available.
    pub fn check(&self, len: u64, more: u64) -> Result<(), MemoryError> {
        let available = self.bytes.saturating_sub(self.margin());
        if more <= available {
            return Ok(());
        }
        Err(MemoryError::Exhausted { len, available, limit: self.limit.clone() })
    }
}

/// Parses `/proc/meminfo`. Swap does not count, because memory that a card uses is never swapped out.
fn machine(meminfo: &str) -> Option<Available> {
    let field = |name| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let (bytes, total) = (field("MemAvailable")?, field("MemTotal")?);
    Some(Available { bytes, total, limit: "this machine".into() })
}

/// The files of one version of control groups.
struct Version {
    /// Mount points, in the order in which they are searched.
    mounts: &'static [&'static str],
    limit: &'static str,
    usage: &'static str,
    /// Fields of `memory.stat` for file pages, which the kernel reclaims when the limit is reached.
    file_pages: [&'static str; 2],
}

const V1: Version = Version {
    mounts: &["sys/fs/cgroup/memory"],
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    file_pages: ["total_inactive_file", "total_active_file"],
};
const V2: Version = Version {
    mounts: &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
    limit: "memory.max",
    usage: "memory.current",
    file_pages: ["inactive_file", "active_file"],
};

/// Returns the limits for a line of `/proc/self/cgroup`: those of the group and of its ancestors.
fn hierarchy(root: &Path, line: &str) -> Vec<Available> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return vec![] };
    let version = match controllers {
        "" => V2,
        _ if controllers.split(',').any(|name| name == "memory") => V1,
        _ => return vec![],
    };
    let path = Path::new(path.trim_start_matches('/'));
    let mounts = version.mounts.iter().map(|mount| root.join(mount));
    let groups =
        mounts.flat_map(|mount| path.ancestors().map(move |group| mount.join(group)).collect::<Vec<_>>());
    // In a cgroup namespace, a process may not see all directories of its group. Those that it sees count.
    groups.filter_map(|group| version.read(root, &group)).collect()
}

impl Version {
    fn read(&self, root: &Path, group: &Path) -> Option<Available> {
        let number = |name| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        // "max" is not a number: there is no limit.
        let (total, used): (u64, u64) = (number(self.limit)?, number(self.usage)?);
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let field = |name: &str| {
            let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let reclaimable = self.file_pages.iter().fold(0u64, |sum, name| sum.saturating_add(field(name)));
        let bytes = total.saturating_sub(used.saturating_sub(reclaimable));
        let group = Path::new("/").join(group.strip_prefix(root).unwrap_or(group));
        Some(Available { bytes, total, limit: format!("the control group {}", group.display()) })
    }
}

/// Returns the root of this machine's files.
pub(super) fn system_root() -> PathBuf {
    PathBuf::from("/")
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let meminfo =
            ("proc/meminfo", "MemTotal:       65536000 kB\nMemFree: 1 kB\nMemAvailable:   32768000 kB\n");
        for (name, text) in [meminfo].iter().chain(files) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn without_control_groups_the_machine_is_the_limit() {
        let dir = tree(&[("proc/self/cgroup", "0::/\n")]);
        let available = Available::read(dir.path()).unwrap();
        assert_eq!((available.bytes, available.limit.as_str()), (32000 * MIB, "this machine"));
        assert!(available.check(31000 * MIB, 31000 * MIB).is_ok());
        let text = available.check(1 << 50, 1 << 50).unwrap_err().to_string();
        assert!(text.contains("this machine") && text.contains("0x4000000000000"), "{text}");
        assert!(available.check(u64::MAX, 32000 * MIB).is_err(), "a margin is left");
        assert_eq!(Available::read(&dir.path().join("nowhere")), None);
    }

    #[test]
    fn the_tightest_group_counts_and_file_pages_are_available() {
        let dir = tree(&[
            ("proc/self/cgroup", "12:cpu:/other\n0::/a/b/c\n"),
            ("sys/fs/cgroup/a/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/a/memory.current", "805306368\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 104857600\nactive_file 104857600\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "805306368\n"),
            ("sys/fs/cgroup/a/b/c/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/a/b/c/memory.current", "5\n"),
        ]);
        let available = Available::read(dir.path()).unwrap();
        assert_eq!((available.bytes, available.total), (456 * MIB, 1024 * MIB));
        assert_eq!(available.limit, "the control group /sys/fs/cgroup/a");
        assert!(
            available.check(440 * MIB, 440 * MIB).is_ok() && available.check(441 * MIB, 441 * MIB).is_err()
        );
    }

    #[test]
    fn version_1_control_groups_count_too() {
        let dir = tree(&[
            ("proc/self/cgroup", "4:cpuset,memory:/x\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "209715200\n"),
            ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "104857600\n"),
            ("sys/fs/cgroup/memory/x/memory.stat", "inactive_file 7\ntotal_inactive_file 52428800\n"),
        ]);
        assert_eq!(Available::read(dir.path()).unwrap().bytes, 150 * MIB);
    }

    #[test]
    fn this_machine_reports_its_memory() {
        let available = Available::read(&system_root()).unwrap();
        assert!(available.bytes > 0 && available.total >= available.bytes, "{available:?}");
    }
}
