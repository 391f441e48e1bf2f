//! The names of the device files.

use std::fmt;
use xdma::card::PciAddress;

/// Number of event files of a card.
const EVENTS: u8 = 16;
/// Maximum number of channels in each direction.
const CHANNELS: u8 = 4;

/// Number of minor numbers: one more than the highest.
const MINORS: usize = 116;

/// A device file of a card (`create_xcdev` in the kernel module's `xdma_cdev.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// Registers of the user logic.
    User,
    /// Registers of the XDMA core.
    Control,
    /// A user interrupt, 0 to 15.
    Events(u8),
    /// A channel from host to card, 0 to 3.
    H2c(u8),
    /// A channel from card to host, 0 to 3.
    C2h(u8),
    /// The BAR that bypasses the DMA channels: `bypass`.
    Bypass,
    /// The descriptors of a channel from host to card, 0 to 3: `bypass_h2c_0`.
    BypassH2c(u8),
    /// The descriptors of a channel from card to host, 0 to 3: `bypass_c2h_0`.
    BypassC2h(u8),
    /// The file `resourceN` of a BAR in sysfs, 0 to 5. It is not a device file, but is served like one.
    Resource(u8),
}

impl Node {
    /// Returns all device files that a card can have.
    pub fn all() -> impl Iterator<Item = Self> {
        let events = (0..EVENTS).map(Self::Events);
        let channels = (0..CHANNELS).flat_map(|channel| {
            [Self::H2c(channel), Self::C2h(channel), Self::BypassH2c(channel), Self::BypassC2h(channel)]
        });
        [Self::User, Self::Control, Self::Bypass].into_iter().chain(events).chain(channels)
    }

    /// Returns the files of all BARs in sysfs.
    pub fn resources() -> impl Iterator<Item = Self> {
        (0..6).map(Self::Resource)
    }

    /// Returns the minor number of the device file. The files of BARs have numbers that the kernel module does not use.
    pub fn minor(self) -> u32 {
        match self {
            Self::User => 0,
            Self::Control => 1,
            Self::Events(line) => 10 + u32::from(line),
            Self::H2c(channel) => 32 + u32::from(channel),
            Self::C2h(channel) => 36 + u32::from(channel),
            Self::BypassH2c(channel) => 64 + u32::from(channel),
            Self::BypassC2h(channel) => 68 + u32::from(channel),
            Self::Bypass => 100,
            Self::Resource(bar) => 110 + u32::from(bar),
        }
    }

    /// Returns the file with a minor number.
    #[inline]
    pub fn from_minor(minor: u32) -> Option<Self> {
        // A table, because every call through the preload library executes this.
        const NODES: [Option<Node>; MINORS] = {
            let mut nodes = [None; MINORS];
            let mut minor = 0;
            while minor < MINORS {
                nodes[minor] = Node::of_minor(minor as u8);
                minor += 1;
            }
            nodes
        };
        *NODES.get(minor as usize)?
    }

    const fn of_minor(minor: u8) -> Option<Self> {
        Some(match minor {
            0 => Self::User,
            1 => Self::Control,
            10..=25 => Self::Events(minor - 10),
            32..=35 => Self::H2c(minor - 32),
            36..=39 => Self::C2h(minor - 36),
            64..=67 => Self::BypassH2c(minor - 64),
            68..=71 => Self::BypassC2h(minor - 68),
            100 => Self::Bypass,
            110..=115 => Self::Resource(minor - 110),
            _ => return None,
        })
    }

    /// Returns the card number and the device file that a path names: `/dev/xdma0_h2c_1` is channel 1 of card 0. Names of links
    /// that older udev rules created, such as `/dev/xdma/card0/h2c1`, are also accepted.
    pub fn from_path(path: &str) -> Option<(u32, Self)> {
        let rest = path.strip_prefix("/dev/xdma")?;
        let (card, name) = match rest.strip_prefix("/card") {
            Some(rest) => rest.split_once('/')?,
            None => rest.split_once('_')?,
        };
        let is_link = rest.starts_with('/');
        let named = |node: &Self| {
            let own = node.to_string();
            let parts = own.rsplit_once('_');
            let link = parts.map(|(kind, number)| format!("{kind}{number}"));
            name == if is_link { link.unwrap_or(own) } else { own }
        };
        let is_number = !card.is_empty() && card.bytes().all(|digit| digit.is_ascii_digit());
        if is_number { Some((card.parse().ok()?, Self::all().find(named)?)) } else { None }
    }

    /// Returns the card and the BAR that a path in sysfs names, such as `/sys/bus/pci/devices/0000:3b:00.0/resource0`, or
    /// `resource0_wc` in the same directory. The card is given by the [`pci_number`] of its address. For a path through a
    /// device file of card 0, such as `/sys/class/xdma/xdma0_user/device/resource0`, it is 0.
    pub fn from_resource(path: &str) -> Option<(u64, Self)> {
        let (folder, name) = path.strip_prefix("/sys/")?.rsplit_once('/')?;
        let number = name.strip_prefix("resource")?;
        let bar = match number.strip_suffix("_wc").unwrap_or(number) {
            "0" => 0,
            "1" => 1,
            "2" => 2,
            "3" => 3,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let link = folder.strip_prefix("class/xdma/").and_then(|link| link.strip_suffix("/device"));
        let card = match link {
            Some(name) => {
                Self::from_path(&format!("/dev/{name}")).filter(|(card, _)| *card == 0).map(|_| 0)?
            }
            None => pci_number(folder.rsplit('/').next()?.parse().ok()?),
        };
        Some((card, Self::Resource(bar)))
    }

    /// Returns whether the file is for the registers of a BAR, which can be mapped.
    pub fn is_bar(self) -> bool {
        !matches!(self, Self::Events(_) | Self::H2c(_) | Self::C2h(_))
    }

    /// Returns whether this is the device file of a DMA channel.
    pub fn is_dma(self) -> bool {
        matches!(self, Self::H2c(_) | Self::C2h(_))
    }
}

/// Returns a number for a PCI address. It is never 0.
pub fn pci_number(address: PciAddress) -> u64 {
    let PciAddress { domain, bus, device, function } = address;
    let [bus, device, function] = [bus, device, function].map(u64::from);
    u64::from(domain) << 32 | bus << 16 | device << 8 | function << 1 | 1
}

/// The part of the name after the card number, such as `h2c_1`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Control => f.write_str("control"),
            Self::Events(line) => write!(f, "events_{line}"),
            Self::H2c(channel) => write!(f, "h2c_{channel}"),
            Self::C2h(channel) => write!(f, "c2h_{channel}"),
            Self::Bypass => f.write_str("bypass"),
            Self::BypassH2c(channel) => write!(f, "bypass_h2c_{channel}"),
            Self::BypassC2h(channel) => write!(f, "bypass_c2h_{channel}"),
            Self::Resource(bar) => write!(f, "resource{bar}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_minor_numbers_are_those_of_the_kernel_module() {
        assert_eq!(Node::from_path("/dev/xdma0_user"), Some((0, Node::User)));
        assert_eq!(Node::from_path("/dev/xdma12_h2c_3"), Some((12, Node::H2c(3))));
        for path in
            ["/dev/xdma0_h2c_4", "/dev/xdma_user", "/dev/xdma0_events_16", "/dev/xdma+1_user", "xdma0_user"]
        {
            assert_eq!(Node::from_path(path), None, "{path}");
        }
        for node in Node::all() {
            assert_eq!(Node::from_path(&format!("/dev/xdma0_{node}")), Some((0, node)));
            assert_eq!(Node::from_minor(node.minor()), Some(node));
        }
        for minor in 0..256 {
            assert!(Node::from_minor(minor).is_none_or(|node| node.minor() == minor), "{minor}");
        }
        assert_eq!(Node::from_path("/dev/xdma/card0/bypass_c2h2"), Some((0, Node::BypassC2h(2))));
        assert_eq!(Node::from_path("/dev/xdma/card1/h2c3"), Some((1, Node::H2c(3))));
        assert_eq!((Node::Events(3).minor(), Node::C2h(1).minor()), (13, 37));
        for minor in [2, 9, 26, 31, 40, u32::MAX] {
            assert_eq!(Node::from_minor(minor), None);
        }
    }

    #[test]
    fn resources_are_named_by_their_card() {
        let card = pci_number("0001:3b:1f.7".parse().unwrap());
        for path in
            ["/sys/bus/pci/devices/0001:3b:1f.7/resource5", "/sys/devices/a/0001:3b:1f.7/resource5_wc"]
        {
            assert_eq!(Node::from_resource(path), Some((card, Node::Resource(5))), "{path}");
        }
        let link = "/sys/class/xdma/xdma0_h2c_1/device/resource2";
        assert_eq!(Node::from_resource(link), Some((0, Node::Resource(2))));
        for path in [
            "/sys/bus/pci/devices/0001:3b:1f.7/resource",
            "/sys/bus/pci/devices/0001:3b:1f.7/resource6",
            "/sys/class/xdma/xdma1_user/device/resource0",
            "/sys/class/xdma/xdma0_nothing/device/resource0",
            "/sys/bus/pci/devices/0001:3b:1f/resource0",
            "/tmp/0001:3b:1f.7/resource0",
        ] {
            assert_eq!(Node::from_resource(path), None, "{path}");
        }
    }
}
