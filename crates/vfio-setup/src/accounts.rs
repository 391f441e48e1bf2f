//! Users and groups of the host, and the identity of this process.
//!
//! Names are looked up in `/etc/passwd` and `/etc/group`. Accounts of a directory service must be given by number.

use super::{Host, Refusal, SetupError};

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name, or the number if the account was given by number.
    pub name: String,
    /// The number.
    pub id: u32,
}

/// Looks up a user by name or number.
///
/// # Errors
///
/// There is no such user.
pub fn user(host: &Host, name: &str) -> Result<Account, SetupError> {
    let remedy = "if it belongs to a directory service, use its number (`id -u NAME`)".to_string();
    find(host, "user", name, remedy)
}

/// Looks up a group by name or number.
///
/// # Errors
///
/// There is no such group.
pub fn group(host: &Host, name: &str) -> Result<Account, SetupError> {
    let remedy = format!(
        "create it (`sudo groupadd --system {name}`), or use its number if it belongs to a directory service (`getent group {name}`)"
    );
    find(host, "group", name, remedy)
}

fn find(host: &Host, kind: &'static str, name: &str, remedy: String) -> Result<Account, SetupError> {
    if let Ok(id) = name.parse() {
        return Ok(Account { name: name.into(), id });
    }
    let file = if kind == "user" { "/etc/passwd" } else { "/etc/group" };
    let text = host.text(&file[1..])?.unwrap_or_default();
    let found = entries(&text).find(|fields| fields[0] == name).and_then(|fields| fields[2].parse().ok());
    match found.filter(|_| is_plain(name)) {
        Some(id) => Ok(Account { name: name.into(), id }),
        None => Err(Refusal::NoAccount { kind, name: name.into(), file, remedy }.into()),
    }
}

/// Returns whether a name has no special characters, so that it can be written to configuration files and commands.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Returns the fields of the lines of `passwd` or `group` that have at least a name, a password and a number.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 3)
}

/// The identity of this process, from `/proc/self`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Effective user.
    pub uid: u32,
    /// Name of the user, if known.
    pub name: Option<String>,
    /// Effective group and supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities.
    capabilities: u64,
}

/// A Linux capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Permission to open any file.
    DacOverride = 1,
    /// Permission to lock memory without a limit.
    IpcLock = 14,
    /// Permission to use VFIO without an IOMMU.
    SysRawio = 17,
    /// Permission to read physical addresses from `pagemap`.
    SysAdmin = 21,
}

impl Identity {
    /// Reads the identity of this process.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn read(host: &Host) -> Result<Self, SetupError> {
        let status = host.text("proc/self/status")?.unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_whitespace()
        };
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
        let uid = number(field("Uid").nth(1)).unwrap_or(u32::MAX);
        let mut groups: Vec<u32> = number(field("Gid").nth(1)).into_iter().collect();
        groups.extend(field("Groups").filter_map(|id| number(Some(id))));
        let capabilities = field("CapEff").next().and_then(|bits| u64::from_str_radix(bits, 16).ok());
        let passwd = host.text("etc/passwd")?.unwrap_or_default();
        let name = entries(&passwd).find(|fields| fields[2] == uid.to_string()).map(|f| f[0].to_string());
        Ok(Self { uid, name, groups, capabilities: capabilities.unwrap_or(0) })
    }

    /// Returns whether the process has a capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities >> capability as u32 & 1 != 0
    }

    /// Returns whether the user is a member of a group according to `/etc/group`, but this process is not, because the user was
    /// added after the login.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn joined_later(&self, host: &Host, gid: u32) -> Result<bool, SetupError> {
        let text = host.text("etc/group")?.unwrap_or_default();
        let Some(name) = &self.name else { return Ok(false) };
        let of_group = |fields: &Vec<&str>| fields[2] == gid.to_string();
        let has_user =
            |fields: Vec<&str>| fields.get(3).is_some_and(|users| users.split(',').any(|u| u == name));
        Ok(!self.groups.contains(&gid) && entries(&text).filter(of_group).any(has_user))
    }
}

/// Returns the name of a group, or its number if it has none.
pub(super) fn group_name(host: &Host, gid: u32) -> String {
    name_of(host, "etc/group", gid)
}

/// Returns the name of a user, or its number if it has none.
pub(super) fn user_name(host: &Host, uid: u32) -> String {
    name_of(host, "etc/passwd", uid)
}

fn name_of(host: &Host, file: &str, id: u32) -> String {
    let text = host.text(file).ok().flatten().unwrap_or_default();
    let entry = entries(&text).find(|fields| fields[2] == id.to_string());
    entry.map_or_else(|| id.to_string(), |fields| fields[0].to_string())
}
