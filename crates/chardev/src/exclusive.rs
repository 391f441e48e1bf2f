//! The settings with which a process uses a card without a broker.

use crate::device::{Device, DeviceOptions};
use crate::node::{Node, pci_number};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use xdma::card::CardName;

/// The environment variable that contains an [`Exclusive`].
pub const EXCLUSIVE_VARIABLE: &str = "XDMA_EXCLUSIVE";

/// A card for one process. The text form is for [`EXCLUSIVE_VARIABLE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusive {
    /// The card's name.
    pub card: CardName,
    /// Options of the device files.
    pub options: DeviceOptions,
    /// The minor numbers of the card's files, as a bit mask. A program can use it to find the files without opening the card.
    pub minors: u128,
    /// A file that the process locks while it uses the card.
    pub lock: PathBuf,
}

impl Exclusive {
    /// Describes a card whose device files are those of `device`.
    pub fn new(card: CardName, device: &Device, options: DeviceOptions, lock: PathBuf) -> Self {
        let resources = Node::resources().filter(|node| device.has(*node));
        let minors = device.nodes().chain(resources).fold(0, |minors, node| minors | 1 << node.minor());
        Self { card, options, minors, lock }
    }

    /// Returns whether the card has a file. Unless `card` is 0, it must be the [`pci_number`] of the card.
    pub fn has(&self, node: Node, card: u64) -> bool {
        let own = || self.card.to_string().parse().ok().map(pci_number);
        (card == 0 || own() == Some(card)) && self.minors >> node.minor() & 1 == 1
    }
}

impl fmt::Display for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeviceOptions { h2c_timeout, c2h_timeout } = self.options;
        let [h2c, c2h] = [h2c_timeout, c2h_timeout].map(|timeout| timeout.as_millis());
        write!(f, "{h2c} {c2h} {:x} {}\n{}", self.minors, self.card, self.lock.display())
    }
}

/// The text is not a valid [`Exclusive`].
#[derive(Debug, thiserror::Error)]
#[error("{EXCLUSIVE_VARIABLE} was not set by `xdma run` of this version")]
pub struct BadExclusive;

impl FromStr for Exclusive {
    type Err = BadExclusive;

    fn from_str(text: &str) -> Result<Self, BadExclusive> {
        let (first, lock) = text.split_once('\n').ok_or(BadExclusive)?;
        let mut words = first.splitn(4, ' ');
        let mut word = || words.next().ok_or(BadExclusive);
        let mut timeout = || Ok(Duration::from_millis(word()?.parse().map_err(|_| BadExclusive)?));
        let options = DeviceOptions { h2c_timeout: timeout()?, c2h_timeout: timeout()? };
        let minors = u128::from_str_radix(word()?, 16).map_err(|_| BadExclusive)?;
        let card = word()?.parse().map_err(|_| BadExclusive)?;
        Ok(Self { card, options, minors, lock: lock.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_complete() {
        let second = Duration::from_secs(1);
        for card in ["0000:3b:00.0", "unix:/a path/card"] {
            let exclusive = Exclusive {
                card: card.parse().unwrap(),
                options: DeviceOptions { h2c_timeout: second, c2h_timeout: second * 2 },
                minors: 0xf0_000f_fc03,
                lock: "/run/a lock".into(),
            };
            assert_eq!(exclusive.to_string().parse::<Exclusive>().unwrap(), exclusive);
        }
        for text in ["", "1 2 3", "1 2 3 0000:3b:00.0", "x 2 3 0000:3b:00.0\nlock", "1 2 3 card\nlock"] {
            assert!(text.parse::<Exclusive>().is_err(), "{text}");
        }
    }
}
