//! udev rules that bind functions to `vfio-pci` when they appear, including functions that do not exist yet.

use super::persist::RULES;
use super::{Host, Refusal, SetupError, select};
use xdma::card::PciAddress;
use xdma::regs::ids::Model;
use xdma::unstable::bus::sysfs::Function;

/// The functions that the rules bind.
pub(super) struct Targets {
    /// Functions that exist. Their rules contain their address and IDs.
    pub present: Vec<Function>,
    /// Addresses at which there is no function yet. Cards with known IDs are bound there.
    pub absent: Vec<PciAddress>,
    /// Whether cards with known IDs are bound at any address.
    pub anywhere: bool,
}

impl Targets {
    /// Selects the named functions. Without names, selects all cards, or the cards that will appear if there is none yet.
    pub fn select(host: &Host, named: &[PciAddress], any: bool) -> Result<Self, SetupError> {
        let has_functions = host.path("sys/bus/pci/devices").is_dir();
        if named.is_empty() {
            let cards =
                if has_functions { select::functions(host, &[], any) } else { Err(Refusal::NoCard.into()) };
            return match cards {
                Ok(present) => Ok(Self { present, absent: Vec::new(), anywhere: false }),
                Err(SetupError::Refused(Refusal::NoCard)) => {
                    Ok(Self { present: Vec::new(), absent: Vec::new(), anywhere: true })
                }
                Err(error) => Err(error),
            };
        }
        let exists = |address: &PciAddress| host.sysfs().function(*address).is_ok();
        let (there, absent): (Vec<_>, Vec<_>) = named.iter().copied().partition(exists);
        for &address in &absent {
            if address.is_behind_vmd() {
                return Err(Refusal::BehindVmd(address).into());
            }
            if any {
                return Err(Refusal::UnknownIds(address).into());
            }
        }
        let present = if there.is_empty() { Vec::new() } else { select::functions(host, &there, any)? };
        Ok(Self { present, absent, anywhere: false })
    }

    /// Returns notes on functions that do not exist yet.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.anywhere {
            notes.push("there is no XDMA card yet: every card with known PCI IDs is bound to vfio-pci when it appears. For a card with custom IDs, run this command again when the card has appeared".to_string());
        }
        for address in &self.absent {
            notes.push(format!("there is no function {address} yet: a card with known PCI IDs is bound to vfio-pci when it appears there"));
        }
        notes
    }
}

/// The known cards as patterns of `modalias`, from the rules for their nodes.
fn known_ids() -> impl Iterator<Item = &'static str> {
    RULES
        .lines()
        .filter_map(|line| line.strip_prefix("RESULT==\"*")?.split_once('"'))
        .map(|(pattern, _)| pattern)
}

const BY_IDS: &str = "ATTR{modalias}==\"";

/// Returns whether the rules of [`text`] bind a function by its IDs at any address.
pub(super) fn binds_by_ids(rules: &str, vendor: u16, device: u16) -> bool {
    rules.lines().any(|line| line.starts_with(BY_IDS)) && Model::of(vendor, device).is_card()
}

/// Returns the addresses that the rules of [`text`] name, and whether they needed `--any`.
pub(super) fn named(rules: &str) -> (Vec<PciAddress>, bool) {
    let address = |line: &str| line.strip_prefix("KERNEL==\"")?.split_once('"')?.0.parse().ok();
    let mut addresses: Vec<_> = rules.lines().filter_map(address).collect();
    addresses.dedup();
    (addresses, rules.lines().any(|line| line.starts_with("SUBSYSTEM==\"vfio\"")))
}

/// Returns udev rules that bind functions when they appear, at boot or when an image is loaded, regardless of the order in
/// which modules are loaded.
pub(super) fn text(targets: &Targets, group: &str) -> Result<String, SetupError> {
    let (mut lines, mut owners) = (String::new(), String::new());
    for function in &targets.present {
        let (address, vendor, device) = (function.address(), function.vendor()?, function.device()?);
        lines += &format!(
            "KERNEL==\"{address}\", ATTR{{vendor}}==\"{vendor:#06x}\", ATTR{{device}}==\"{device:#06x}\", GOTO=\"xdma_bind\"\n"
        );
        if !Model::of(vendor, device).is_card() {
            owners += &owner_rules(&address.to_string(), group);
        }
    }
    let absent = targets.absent.iter().map(|address| format!("KERNEL==\"{address}\", "));
    for place in absent.chain(targets.anywhere.then(String::new)) {
        lines.extend(known_ids().map(|pattern| format!("{place}{BY_IDS}{pattern}\", GOTO=\"xdma_bind\"\n")));
    }
    Ok(format!(
        "# Binds these functions to vfio-pci when they appear.
{owners}
ACTION!=\"add\", GOTO=\"xdma_bind_end\"
SUBSYSTEM!=\"pci\", GOTO=\"xdma_bind_end\"
{lines}GOTO=\"xdma_bind_end\"

LABEL=\"xdma_bind\"
# No other driver may bind from here on. A driver that was faster is unbound.
ATTR{{driver_override}}=\"vfio-pci\"
DRIVER==\"?*\", DRIVER!=\"vfio-pci\", ATTR{{driver/unbind}}=\"$kernel\"
# Loading the module binds the function. If the module was already loaded, the probe does.
IMPORT{{builtin}}=\"kmod load vfio-pci\"
DRIVER!=\"vfio-pci\", ATTR{{subsystem/drivers_probe}}=\"$kernel\"

LABEL=\"xdma_bind_end\"
"
    ))
}

/// Returns udev rules that give the group access to a function's VFIO nodes. They are for a function whose IDs are not in
/// [`RULES`].
fn owner_rules(address: &str, group: &str) -> String {
    let owned = format!("GROUP=\"{group}\", MODE=\"0660\"\n");
    let member = |number: &str| format!("TEST==\"/sys/kernel/iommu_groups/{number}/devices/{address}\"");
    format!(
        "SUBSYSTEM==\"vfio\", KERNEL==\"[0-9]*\", {}, {owned}SUBSYSTEM==\"vfio\", KERNEL==\"noiommu-[0-9]*\", {}, {owned}SUBSYSTEM==\"vfio-dev\", KERNELS==\"{address}\", {owned}",
        member("%k"),
        member("%n"),
    )
}
