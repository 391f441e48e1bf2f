//! Settings outside a function that decide which driver binds to it: PCI IDs that were given to a driver, and overrides that are
//! applied whenever the function appears.
//!
//! The kernel does not list the IDs of a driver. They can be found on the kernel command line, in modprobe's configuration, or
//! by their effect: without an override, `vfio-pci` binds only to functions whose IDs it was given.

use super::select::VFIO;
use super::{Host, SetupError, advice, binding, persist};
use serde::Serialize;
use xdma::card::PciAddress;
use xdma::unstable::bus::sysfs::Function;

/// Drivers that bind to any function whose IDs they are given, by a parameter `ids` or by their file `new_id`.
const STUBS: [&str; 2] = [VFIO, "pci-stub"];

/// The directories of modprobe, in the order of precedence.
const MODPROBE: [&str; 5] =
    ["etc/modprobe.d", "run/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d"];

/// The directories of udev's rules, in the order of precedence.
const RULES: [&str; 5] = [
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
];

/// When a claim takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Whenever the kernel looks for a driver.
    Now,
    /// When the function appears: at a boot, or after a rescan.
    Later,
}

/// A setting by which a driver claims a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The driver.
    pub driver: String,
    /// When the claim takes effect.
    pub effect: Effect,
    /// The setting, and where it was made.
    pub setting: String,
    /// The IDs that the driver was given, as `vendor device` in hexadecimal, if the claim is by IDs.
    pub ids: Option<String>,
    /// How to remove the setting for good.
    pub remedy: Option<String>,
}

impl Claim {
    fn by_ids(driver: &str, ids: Ids, setting: String, remedy: Option<String>) -> Self {
        let ids = Some(format!("{:x} {:x}", ids.vendor, ids.device));
        Self { driver: driver.into(), effect: Effect::Now, setting, ids, remedy }
    }

    fn saved(driver: &str, setting: String, remedy: String) -> Self {
        Self { driver: driver.into(), effect: Effect::Later, setting, ids: None, remedy: Some(remedy) }
    }

    /// Returns the command that makes the driver forget the IDs until it is loaded again.
    pub(super) fn forget(&self) -> Option<String> {
        let ids = self.ids.as_ref()?;
        Some(format!("echo \"{ids}\" | sudo tee /sys/bus/pci/drivers/{}/remove_id", self.driver))
    }
}

/// Returns the claims on a function by settings outside it, those with immediate effect first.
///
/// # Errors
///
/// A file of the host cannot be read.
pub fn of(host: &Host, function: &Function) -> Result<Vec<Claim>, SetupError> {
    let mut claims = Vec::new();
    for driver in STUBS {
        command_line(host, function, driver, &mut claims)?;
        modprobe(host, function, driver, &mut claims)?;
    }
    // No setting explains the binding, so the IDs were written to `new_id`.
    let bound = function.driver()?.filter(|driver| STUBS.contains(&driver.as_str()));
    if let Some(driver) = bound.filter(|driver| !claims.iter().any(|claim| claim.driver == *driver))
        && function.driver_override()?.is_none()
    {
        let ids = Ids { vendor: function.vendor()?.into(), device: function.device()?.into() };
        let setting = format!("/sys/bus/pci/drivers/{driver}/new_id");
        claims.push(Claim::by_ids(&driver, ids, setting, None));
    }
    driverctl(host, function.address(), &mut claims)?;
    rules(host, function, &mut claims)?;
    Ok(claims)
}

fn command_line(
    host: &Host,
    function: &Function,
    driver: &str,
    claims: &mut Vec<Claim>,
) -> Result<(), SetupError> {
    let text = host.text("proc/cmdline")?.unwrap_or_default();
    for word in text.split_whitespace() {
        let Some((name, value)) = word.trim_matches('"').split_once(".ids=") else { continue };
        if !is_module(name, driver) {
            continue;
        }
        for ids in matching(value, function)? {
            let remedy =
                format!("remove `{word}` from the kernel command line, in the boot loader's configuration");
            claims.push(Claim::by_ids(
                driver,
                ids,
                format!("`{word}` on the kernel command line"),
                Some(remedy),
            ));
        }
    }
    Ok(())
}

fn modprobe(
    host: &Host,
    function: &Function,
    driver: &str,
    claims: &mut Vec<Claim>,
) -> Result<(), SetupError> {
    for (path, text) in files(host, &MODPROBE, ".conf")? {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("options") || !words.next().is_some_and(|name| is_module(name, driver)) {
                continue;
            }
            for value in words.filter_map(|word| word.trim_matches('"').strip_prefix("ids=")) {
                for ids in matching(value, function)? {
                    let remedy = format!(
                        "remove `ids=` from {path}, then rebuild the initramfs (`sudo update-initramfs -u` or `sudo dracut --force`)"
                    );
                    claims.push(Claim::by_ids(driver, ids, format!("`ids=` in {path}"), Some(remedy)));
                }
            }
        }
    }
    Ok(())
}

fn driverctl(host: &Host, address: PciAddress, claims: &mut Vec<Claim>) -> Result<(), SetupError> {
    let path = format!("etc/driverctl.d/pci-{address}");
    if let Some(driver) = host.text(&path)?.filter(|driver| !driver.is_empty()) {
        let driver = driver.escape_debug().to_string();
        let remedy = format!("sudo driverctl unset-override {address}");
        claims.push(Claim::saved(&driver, format!("an override that driverctl saved in /{path}"), remedy));
    }
    Ok(())
}

/// Adds claims by udev rules. A rules file that `persist` did not write counts if it names `vfio-pci` and the function.
fn rules(host: &Host, function: &Function, claims: &mut Vec<Claim>) -> Result<(), SetupError> {
    let (vendor, device) = (function.vendor()?, function.device()?);
    let address = format!("\"{}\"", function.address());
    let ids = [format!("\"0x{vendor:04x}\""), format!("\"0x{device:04x}\"")];
    for (path, text) in files(host, &RULES, ".rules")? {
        let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let text = lines.join("\n");
        let ours = path == format!("/{}", persist::BINDING);
        let names = if ours {
            text.contains(&address) || binding::binds_by_ids(&text, vendor, device)
        } else {
            text.contains(VFIO) && (text.contains(&address) || ids.iter().all(|id| text.contains(id)))
        };
        if names {
            let remedy = if ours { advice::undo() } else { format!("remove the rule for it from {path}") };
            claims.push(Claim::saved(VFIO, format!("a udev rule in {path}"), remedy));
        }
    }
    Ok(())
}

/// Returns the files in some directories whose names end in `end`, with their text. As in modprobe and udev, a file hides files
/// of the same name in later directories. Files that cannot be read are skipped, because they give no information about the
/// function.
fn files(host: &Host, directories: &[&str], end: &str) -> Result<Vec<(String, String)>, SetupError> {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for directory in directories {
        for name in host.names(directory)?.into_iter().filter(|name| name.ends_with(end)) {
            let path = format!("{directory}/{name}");
            if seen.insert(name)
                && let Ok(Some(text)) = host.text(&path)
            {
                files.push((format!("/{path}"), text));
            }
        }
    }
    Ok(files)
}

/// Returns whether `name` is the module of a driver. The kernel does not distinguish `-` and `_` in names of modules.
fn is_module(name: &str, driver: &str) -> bool {
    name.replace('_', "-") == driver
}

/// The vendor and device in an entry of a parameter `ids`. All ones match any ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ids {
    vendor: u32,
    device: u32,
}

/// Returns the entries of a parameter `ids` that match a function: `vendor:device[:subvendor[:subdevice[:class[:mask]]]]`,
/// separated by commas. Entries that the kernel would ignore are skipped.
fn matching(value: &str, function: &Function) -> Result<Vec<Ids>, SetupError> {
    const ANY: u32 = u32::MAX;
    let (vendor, device) = (u32::from(function.vendor()?), u32::from(function.device()?));
    let class = function.class()?;
    let entry = |text: &str| {
        let mut numbers = text.split(':').map(|number| u32::from_str_radix(number, 16).ok());
        let ids = Ids { vendor: numbers.next()??, device: numbers.next()?? };
        // Subsystem IDs are not compared: reporting a claim that does not apply does no harm.
        let (wanted, mask) = (numbers.nth(2).flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0));
        let fits = |wanted: u32, is: u32| wanted == ANY || wanted == is;
        (fits(ids.vendor, vendor) && fits(ids.device, device) && (wanted ^ class) & mask == 0).then_some(ids)
    };
    Ok(value.split(',').filter_map(entry).collect())
}

/// Explains why a driver still claims a function that should have been returned, and what to type.
pub(super) fn explain(host: &Host, function: &Function) -> String {
    let address = function.address();
    let claims = of(host, function).unwrap_or_default();
    let claims: Vec<_> = claims.into_iter().filter(|c| c.driver == VFIO && c.effect == Effect::Now).collect();
    if claims.is_empty() {
        return String::new();
    }
    let settings: Vec<_> = claims.iter().map(|claim| claim.setting.as_str()).collect();
    // The kernel removes one entry at a time.
    let forget: Vec<_> = claims.iter().filter_map(Claim::forget).collect();
    let mut text = format!(
        ": it has the card's PCI IDs ({}). To return the card, type `{}; {}`",
        settings.join(", "),
        forget.join("; "),
        advice::unbind(address)
    );
    let remedies: Vec<_> = claims.iter().filter_map(|claim| claim.remedy.as_deref()).collect();
    if !remedies.is_empty() {
        text += &format!(". Otherwise it takes the card again at the next boot: {}", remedies.join("; "));
    }
    text
}

/// Returns notes for `unbind`: settings by which `vfio-pci` takes the function again.
pub(super) fn notes_on_unbind(host: &Host, function: &Function) -> Result<Vec<String>, SetupError> {
    let address = function.address();
    let note = |claim: &Claim| match (claim.effect, claim.forget(), &claim.remedy) {
        (Effect::Now, Some(forget), remedy) => {
            let remedy =
                remedy.as_ref().map_or_else(String::new, |remedy| format!("; for the next boot: {remedy}"));
            format!(
                "{} claims {address} by its PCI IDs ({}). If it takes the card again, type `{forget}` first{remedy}",
                claim.driver, claim.setting
            )
        }
        (_, _, remedy) => format!(
            "{} binds to {address} again when it appears, at the next boot or after a rescan ({}): {}",
            claim.driver,
            claim.setting,
            remedy.as_deref().unwrap_or_default()
        ),
    };
    let claims = of(host, function)?;
    Ok(claims.iter().filter(|claim| STUBS.contains(&claim.driver.as_str())).map(note).collect())
}

/// Returns notes for `bind` and `persist`: saved overrides that bind another driver to the function at the next boot.
pub(super) fn notes_on_bind(host: &Host, function: &Function) -> Result<Vec<String>, SetupError> {
    let claims = of(host, function)?;
    let others = claims.iter().filter(|claim| claim.effect == Effect::Later && claim.driver != VFIO);
    let note = |claim: &Claim| {
        format!(
            "at the next boot, {} binds to {} ({}): {}",
            claim.driver,
            function.address(),
            claim.setting,
            claim.remedy.as_deref().unwrap_or_default()
        )
    };
    Ok(others.map(note).collect())
}

/// Returns a note if a function that was returned to the kernel is not bound to its own driver now.
pub(super) fn note_on_returned(host: &Host, function: &Function) -> Result<Option<String>, SetupError> {
    let address = function.address();
    let ids = format!("{:04x} {:04x}", function.vendor()?, function.device()?);
    Ok(match function.driver()? {
        Some(driver) if STUBS.contains(&driver.as_str()) => Some(format!(
            "{address} is bound to {driver} now, which only reserves it: it has the card's PCI IDs. To change that, type `echo \"{ids}\" | sudo tee /sys/bus/pci/drivers/{driver}/remove_id; echo {address} | sudo tee /sys/bus/pci/drivers/{driver}/unbind /sys/bus/pci/drivers_probe`"
        )),
        Some(_) => None,
        None if function.driver_override()?.is_some() => Some(format!(
            "{address} has no driver now, because driver_override allows only {}: to remove that, type `echo | sudo tee /sys/bus/pci/devices/{address}/driver_override; echo {address} | sudo tee /sys/bus/pci/drivers_probe`",
            function.driver_override()?.unwrap_or_default().escape_debug()
        )),
        None if host.path("sys/bus/pci/drivers/xdma").is_dir() => Some(format!(
            "{address} has no driver now: xdma is loaded, but does not know its PCI IDs, or failed to bind to it (see `dmesg`). To add the IDs, type `echo \"{ids}\" | sudo tee /sys/bus/pci/drivers/xdma/new_id`"
        )),
        None => Some(format!(
            "{address} has no driver now; to load the kernel module for it, type `sudo modprobe xdma`"
        )),
    })
}
