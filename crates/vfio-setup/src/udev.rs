//! The groups that udev accepts for a device node.
//!
//! udev 258 and 259 ignore a rule whose group is outside the system range. Later versions accept the rule, but call it
//! deprecated. The range is a constant that is set when systemd is built.

use super::{Host, SetupError, accounts, files, persist};

/// Highest ID of a system group.
const SYSTEM_MAX: u32 = 999;
/// Directories of systemd's private library, whose name contains the version.
const LIBRARIES: [&str; 6] = [
    "usr/lib/systemd",
    "usr/lib64/systemd",
    "lib/systemd",
    "usr/lib/x86_64-linux-gnu/systemd",
    "usr/lib/aarch64-linux-gnu/systemd",
    "usr/lib/riscv64-linux-gnu/systemd",
];

/// Returns the version of the host's systemd, which is also the version of its udev. Returns `None` if systemd's library is not
/// in one of the usual directories.
///
/// # Errors
///
/// A directory cannot be read.
pub fn version(host: &Host) -> Result<Option<u32>, SetupError> {
    for directory in LIBRARIES {
        let number = |name: &String| {
            let rest = name.strip_prefix("libsystemd-shared-")?;
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        };
        if let Some(version) = host.names(directory)?.iter().filter_map(number).max() {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// Returns the group in the installed udev rules, if rules are installed.
///
/// # Errors
///
/// The file cannot be read.
pub fn persisted_group(host: &Host) -> Result<Option<String>, SetupError> {
    let text = files::load(host, persist::OWNERSHIP)?.unwrap_or_default();
    let rules = text.lines().filter(|line| !line.starts_with('#'));
    let group = rules.filter_map(|line| line.split_once(" GROUP=\"")?.1.split_once('"')).next();
    Ok(group.map(|(group, _)| group.to_string()).filter(|group| accounts::is_plain(group)))
}

/// A group that udev does not accept, or will not accept in future versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfitGroup {
    /// The problem.
    pub found: String,
    /// Whether the host's udev ignores the rules.
    pub is_ignored: bool,
}

/// Checks a group of udev rules, given by name or number. Returns `None` if every version of udev accepts it.
///
/// # Errors
///
/// A file of the host cannot be read.
pub fn check(host: &Host, group: &str) -> Result<Option<UnfitGroup>, SetupError> {
    let Ok(account) = accounts::group(host, group) else {
        let found = format!("the group {group} does not exist, so udev ignores the rules for it");
        return Ok(Some(UnfitGroup { found, is_ignored: true }));
    };
    if account.id <= SYSTEM_MAX {
        return Ok(None);
    }
    let name = accounts::group_name(host, account.id);
    let named = if name == account.id.to_string() { name } else { format!("{name} ({})", account.id) };
    let (is_ignored, effect) = match version(host)? {
        Some(version @ 258..=259) => (true, format!("udev {version} ignores the rules for it")),
        Some(version) if version > 259 => (false, format!("udev {version} calls that deprecated")),
        Some(version) => (false, format!("udev {version} accepts it, but udev 258 ignores the rules for it")),
        None => {
            (false, "udev 258 and 259 ignore the rules for it, and later versions call it deprecated".into())
        }
    };
    let found = format!("the group {named} is not a system group (0 to {SYSTEM_MAX}): {effect}");
    Ok(Some(UnfitGroup { found, is_ignored }))
}

/// Returns the name of a group for the rules: an existing system group, or otherwise a name that is free.
pub fn system_group(host: &Host) -> &'static str {
    const NAMES: [&str; 3] = [persist::GROUP, "xdma", "vfio-users"];
    let fits = |name: &&str| accounts::group(host, name).map_or(true, |group| group.id <= SYSTEM_MAX);
    NAMES.into_iter().find(fits).unwrap_or("xdma-users")
}
