//! How to end the use of a function without harm to the machine.
//!
//! A command is suggested only if the machine keeps its network connection and its system's file systems.

use super::{Host, SetupError, advice};
use std::fmt;
use std::fs;

/// How to end a use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// The use can be ended by this command.
    Command(String),
    /// The use should not be ended, for this reason.
    Keep(&'static str),
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => write!(f, "(`{command}`)"),
            Self::Keep(reason) => write!(f, "({reason}; is this function really the card?)"),
        }
    }
}

fn command(prefix: &str, argument: &str) -> Release {
    match advice::word(argument) {
        Some(word) => Release::Command(format!("{prefix} {word}")),
        None => Release::Keep("its name contains control characters"),
    }
}

/// Returns how to take a network interface down. Refuses the interface that connects the machine to its network.
pub fn network(host: &Host, name: &str) -> Result<Release, SetupError> {
    let entries = host.names(&format!("sys/class/net/{name}"))?;
    if entries.iter().any(|entry| entry == "master" || entry.starts_with("upper_")) {
        return Ok(Release::Keep("a bridge, bond or other interface is built on it"));
    }
    if has_default_route(host, name)? || !another_is_up(host, name)? {
        return Ok(Release::Keep("it connects this machine to its network"));
    }
    Ok(match command("sudo ip link set", name) {
        Release::Command(text) => Release::Command(format!("{text} down")),
        keep => keep,
    })
}

fn has_default_route(host: &Host, name: &str) -> Result<bool, SetupError> {
    let ipv4 = host.text("proc/net/route")?.unwrap_or_default();
    let ipv6 = host.text("proc/net/ipv6_route")?.unwrap_or_default();
    let is_default = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.first() == Some(&name)
            && fields.get(1) == Some(&"00000000")
            && fields.get(7) == Some(&"00000000")
    };
    let is_default6 = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let any = fields.first().is_some_and(|to| to.bytes().all(|b| b == b'0'));
        any && fields.get(1) == Some(&"00") && fields.last() == Some(&name)
    };
    Ok(ipv4.lines().any(is_default) || ipv6.lines().any(is_default6))
}

fn another_is_up(host: &Host, name: &str) -> Result<bool, SetupError> {
    for other in host.names("sys/class/net")?.iter().filter(|other| *other != name && *other != "lo") {
        // A virtual interface does not connect the machine to a network.
        let is_device = fs::symlink_metadata(host.path(&format!("sys/class/net/{other}/device"))).is_ok();
        let state = host.text(&format!("sys/class/net/{other}/operstate"))?;
        if is_device && state.as_deref() == Some("up") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Directories of the running system. Their file systems must stay mounted.
const SYSTEM: [&str; 19] = [
    "/bin", "/boot", "/dev", "/efi", "/etc", "/gnu", "/home", "/lib", "/nix", "/opt", "/ostree", "/proc",
    "/root", "/sbin", "/snap", "/sys", "/sysroot", "/usr", "/var",
];

/// Returns how to unmount a file system. Refuses file systems that belong to the system. `at` is the mount point as in
/// `mountinfo`.
pub fn mount(at: &str) -> Release {
    let at = decoded(at);
    let below = |directory: &&str| {
        at.strip_prefix(*directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let temporary =
        (at == "/tmp" || at == "/run" || at.starts_with("/run/")) && !at.starts_with("/run/media/");
    if at == "/" || temporary || SYSTEM.iter().any(below) || !at.starts_with('/') {
        return Release::Keep("it belongs to the running system");
    }
    command("sudo umount", &at)
}

/// Decodes the octal escapes of `mountinfo`, such as `\040` for a space.
pub fn decoded(text: &str) -> String {
    let mut rest = text;
    let mut decoded = String::new();
    while let Some((before, after)) = rest.split_once('\\') {
        decoded += before;
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                decoded.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                decoded.push('\\');
                rest = after;
            }
        }
    }
    decoded + rest
}

/// Returns how to stop the use of a disk for swap. The swapped data must fit into free memory. `line` is the disk's line in
/// `/proc/swaps`.
pub fn swap(host: &Host, disk: &str, line: &str) -> Result<Release, SetupError> {
    let used = line.split_whitespace().nth(3).and_then(|kib| kib.parse::<u64>().ok());
    let memory = host.text("proc/meminfo")?.unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    match (used, available) {
        (Some(used), Some(available)) if used < available / 2 => {
            Ok(command("sudo swapoff", &format!("/dev/{disk}")))
        }
        _ => Ok(Release::Keep("its contents may not fit into free memory")),
    }
}
