//! The commands that `vfio-setup` tells its users to type. Each works when it is pasted.

use super::hugepages::{PageSize, Wanted};
use super::{BindOptions, Host, accounts, persist, select, udev};
use std::fmt::Write as _;
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// Returns the group to name in commands: that of the installed udev rules, unless udev does not accept it.
fn group(host: &Host) -> String {
    let installed = udev::persisted_group(host).ok().flatten();
    let fits = |group: &String| udev::check(host, group).is_ok_and(|unfit| unfit.is_none());
    installed.filter(fits).unwrap_or_else(|| udev::system_group(host).into())
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

/// Returns the command that binds a function for the group of the card's users.
pub fn bind(host: &Host, function: &Function) -> String {
    let options = BindOptions { group: Some(group(host)), ..options(function) };
    bind_with(host, &[function.address()], &options)
}

/// Returns the command that binds a function without an IOMMU.
pub fn bind_without_iommu(host: &Host, function: &Function) -> String {
    let options = BindOptions { group: Some(group(host)), no_iommu: true, ..options(function) };
    bind_with(host, &[function.address()], &options)
}

/// Returns the command that reserves hugepages of 2 MiB, and changes nothing else about a bound function. `None` if the function can be
/// bound only without an IOMMU, which is the user's decision.
pub fn hugepages(host: &Host, function: &Function, count: u64) -> Option<String> {
    if function.iommu_group().is_ok_and(|group| group.is_none()) {
        return None;
    }
    let options = BindOptions { hugepages: pages(count), ..options(function) };
    Some(bind_with(host, &[function.address()], &options))
}

fn pages(count: u64) -> Wanted {
    Wanted(vec![(PageSize::Huge2M, count)])
}

/// Returns the command that persists the binding of functions with these options for a group.
pub fn persist_with(host: &Host, named: &[PciAddress], options: &BindOptions, group: &str) -> String {
    let options = BindOptions { group: Some(group.into()), user: None, ..options.clone() };
    command(host, "persist", named, &options)
}

/// Returns the command that persists the binding of a function in addition to what is persisted already. `None` if the function can be
/// bound only without an IOMMU, which is the user's decision.
pub fn persist(host: &Host, function: &Function) -> Option<String> {
    let ((mut named, mut all), own) = (persist::installed(host).ok()?, options(function));
    if function.iommu_group().is_ok_and(|group| group.is_none()) && !all.no_iommu {
        return None;
    }
    if !named.contains(&function.address()) {
        named.push(function.address());
    }
    all.any |= own.any;
    all.no_iommu |= own.no_iommu;
    Some(persist_with(host, &named, &all, &group(host)))
}

/// Returns the command that persists what is persisted already, or the binding of all cards, with a number of hugepages of 2 MiB, if any
/// are missing, and with no-IOMMU mode.
pub fn persist_host(host: &Host, missing_pages: Option<u64>, no_iommu: bool) -> Option<String> {
    let (named, mut all) = persist::installed(host).ok()?;
    all.no_iommu |= no_iommu;
    all.hugepages = missing_pages.map_or(all.hugepages, pages);
    Some(persist_with(host, &named, &all, &group(host)))
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

/// Returns a word of a shell command, in quotes if necessary; `None` if it is empty, an option, or contains control characters, on which
/// a terminal would act.
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
