//! The names of the device files.

use std::fmt;

/// Number of event files of a card.
const EVENTS: u8 = 16;
/// Maximum number of channels in each direction.
const CHANNELS: u8 = 4;

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
}

impl Node {
    /// Returns all device files that a card can have.
    pub fn all() -> impl Iterator<Item = Self> {
        let events = (0..EVENTS).map(Self::Events);
        let channels = (0..CHANNELS).flat_map(|channel| [Self::H2c(channel), Self::C2h(channel)]);
        [Self::User, Self::Control].into_iter().chain(events).chain(channels)
    }

    /// Returns the minor number of the device file.
    pub fn minor(self) -> u32 {
        match self {
            Self::User => 0,
            Self::Control => 1,
            Self::Events(line) => 10 + u32::from(line),
            Self::H2c(channel) => 32 + u32::from(channel),
            Self::C2h(channel) => 36 + u32::from(channel),
        }
    }

    /// Returns the device file with a minor number.
    pub fn from_minor(minor: u32) -> Option<Self> {
        // Programs with the preload library execute this in every call.
        let number = |first: u32, count: u8| {
            u8::try_from(minor.checked_sub(first)?).ok().filter(|number| *number < count)
        };
        match minor {
            0 => Some(Self::User),
            1 => Some(Self::Control),
            10..32 => number(10, EVENTS).map(Self::Events),
            32..36 => number(32, CHANNELS).map(Self::H2c),
            _ => number(36, CHANNELS).map(Self::C2h),
        }
    }

    /// Returns the card number and the device file that a path names: `/dev/xdma0_h2c_1` is channel 1 of card 0. The names of
    /// the links that older udev rules created are also accepted, such as `/dev/xdma/card0/h2c1`.
    pub fn from_path(path: &str) -> Option<(u32, Self)> {
        let rest = path.strip_prefix("/dev/xdma")?;
        let (card, name) = match rest.strip_prefix("/card") {
            Some(rest) => rest.split_once('/')?,
            None => rest.split_once('_')?,
        };
        let is_link = rest.starts_with('/');
        let named = |node: &Self| {
            let own = node.to_string();
            let parts = own.split_once('_');
            let link = parts.map(|(kind, number)| format!("{kind}{number}"));
            name == if is_link { link.unwrap_or(own) } else { own }
        };
        let is_number = !card.is_empty() && card.bytes().all(|digit| digit.is_ascii_digit());
        if is_number { Some((card.parse().ok()?, Self::all().find(named)?)) } else { None }
    }

    /// Returns whether this is the device file of a DMA channel.
    pub fn is_dma(self) -> bool {
        matches!(self, Self::H2c(_) | Self::C2h(_))
    }
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
        assert_eq!((Node::Events(3).minor(), Node::C2h(1).minor()), (13, 37));
        for minor in [2, 9, 26, 31, 40, u32::MAX] {
            assert_eq!(Node::from_minor(minor), None);
        }
    }
}
