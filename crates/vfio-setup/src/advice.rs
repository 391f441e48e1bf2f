//! The commands that `vfio-setup` suggests. Each works when it is pasted.

use super::{BindOptions, Host, SetupError, accounts, persist, select, udev};
use std::fmt::Write as _;
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// Returns the group to use in commands: the group of the installed udev rules, unless udev does not accept it.
fn group(host: &Host) -> String {
    let installed = udev::persisted_group(host).ok().flatten();
    let fits = |group: &String| udev::check(host, group).is_ok_and(|unfit| unfit.is_none());
    installed.filter(fits).unwrap_or_else(|| udev::system_group(host).into())
}

/// Returns the group that `bind` can give access to the nodes. If `/dev/iommu` was configured for other programs, this is the
/// group of `/dev/iommu`, because `bind` does not change it.
pub fn bind_group(host: &Host) -> String {
    const ALL_READ_AND_WRITE: u32 = 0o006;
    let configured = |node: &str| {
        let owner = host.kernel().owner(&host.path(node)).ok()?;
        let is_shared = owner.gid != 0 && owner.mode & ALL_READ_AND_WRITE != ALL_READ_AND_WRITE;
        is_shared.then(|| accounts::group_name(host, owner.gid))
    };
    ["dev/iommu", "dev/vfio/vfio"].into_iter().find_map(configured).unwrap_or_else(|| group(host))
}

/// Returns the options that commands on a function need.
pub fn options(function: &Function) -> BindOptions {
    let is_card = select::model(function).is_ok_and(|model| model.is_card());
    let group = function.iommu_group().ok().flatten();
    let no_iommu = group.is_some_and(|group| group.no_iommu);
    BindOptions { any: !is_card, no_iommu, ..BindOptions::default() }
}

/// Returns a command line of `bind` or `persist` with these options.
fn command(host: &Host, name: &str, named: &[PciAddress], options: &BindOptions) -> String {
    let mut text = format!("sudo vfio-setup {name}");
    for address in named {
        let _ = write!(text, " {address}");
    }
    for (flag, set) in [("--any", options.any), ("--no-iommu", options.no_iommu)] {
        text += &if set { format!(" {flag}") } else { String::new() };
    }
    if !options.hugepages.0.is_empty() {
        let _ = write!(text, " --hugepages {}", options.hugepages);
        text += &options.node.map_or_else(String::new, |node| format!(" --node {node}"));
    }
    for (flag, name) in [("--user", &options.user), ("--group", &options.group)] {
        let name = name.as_deref().and_then(word);
        text += &name.map_or_else(String::new, |name| format!(" {flag} {name}"));
    }
    let create = options.group.as_deref().map_or_else(String::new, |group| create(host, group));
    create + &text
}

/// Returns the command that creates a group, followed by `&&`, or nothing if it exists.
fn create(host: &Host, group: &str) -> String {
    match accounts::group(host, group) {
        Err(_) if accounts::is_plain(group) => format!("sudo groupadd --system {group} && "),
        _ => String::new(),
    }
}

/// Returns the command that binds functions with these options.
pub fn bind_with(host: &Host, named: &[PciAddress], options: &BindOptions) -> String {
    command(host, "bind", named, options)
}

/// Returns the command that binds the function at an address. It has the options that this function needs.
pub fn bind_command(host: &Host, address: PciAddress) -> String {
    let options = host.sysfs().function(address).map(|function| options(&function)).unwrap_or_default();
    bind_with(host, &[address], &options)
}

/// Returns the command that persists the binding of functions with these options.
pub fn persist_with(host: &Host, named: &[PciAddress], options: &BindOptions) -> String {
    command(host, "persist", named, &BindOptions { user: None, ..options.clone() })
}

/// Returns the functions and options that keep the persisted configuration and add a function.
pub fn to_persist(
    host: &Host,
    function: Option<&Function>,
) -> Result<(Vec<PciAddress>, BindOptions), SetupError> {
    let (mut named, mut all) = persist::installed(host)?;
    if let Some(function) = function {
        let own = options(function);
        if !named.contains(&function.address()) {
            named.push(function.address());
        }
        all.any |= own.any;
        all.no_iommu |= own.no_iommu;
    }
    all.group = Some(group(host));
    Ok((named, all))
}

/// Returns the command that returns a function to the kernel.
pub fn unbind(address: PciAddress) -> String {
    format!("sudo vfio-setup unbind {address}")
}

/// Returns the command that removes the files of `persist`.
pub fn undo() -> String {
    "sudo vfio-setup undo".into()
}

/// Returns the command that removes a function and finds it again.
pub fn rescan(address: PciAddress) -> String {
    format!("echo 1 | sudo tee /sys/bus/pci/devices/{address}/remove /sys/bus/pci/rescan")
}

/// Returns a word of a shell command, in quotes if necessary. Returns `None` if it is empty, an option, or contains control
/// characters, which a terminal would interpret.
pub fn word(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:-@+=,".contains(c);
    match text {
        text if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) => None,
        text if text.chars().all(is_plain) => Some(text.into()),
        text => Some(format!("'{}'", text.replace('\'', "'\\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(word("/srv/data").as_deref(), Some("/srv/data"));
        assert_eq!(word("/srv/my data").as_deref(), Some("'/srv/my data'"));
        assert_eq!(word("a'b$(c)").as_deref(), Some("'a'\\''b$(c)'"));
        for bad in ["", "-rf", "a\u{1b}b", "a\nb"] {
            assert_eq!(word(bad), None, "{bad:?}");
        }
    }
}
