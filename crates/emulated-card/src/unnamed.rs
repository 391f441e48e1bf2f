//! What happens if no card is named.

use crate::CardChoice;
use xdma::card::PciAddress;
use xdma::regs::ids::Model;
use xdma::unstable::bus::sysfs::{Function, Sysfs};
use xdma_emulator::CardFile;

/// The emulated card that is used if no card is named.
const DEFAULT: &str = "f1";

/// The error returned when no card is named on a machine with XDMA cards. A result from an emulated card could be mistaken for one
/// from a card of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no card is named, and this machine has XDMA cards: name one with --card ({}), or an emulated card with --card {DEFAULT}",
    .0.iter().map(PciAddress::to_string).collect::<Vec<_>>().join(", ")
)]
pub struct UnnamedCard(Vec<PciAddress>);

impl CardChoice {
    /// Returns `named`, or else the default emulated card.
    ///
    /// # Errors
    ///
    /// [`UnnamedCard`] if no card is named and this machine has XDMA cards.
    pub fn or_emulated(named: Option<&Self>) -> Result<Self, UnnamedCard> {
        named.map_or_else(|| emulated_unless(&Sysfs::system()), |choice| Ok(choice.clone()))
    }
}

fn emulated_unless(sysfs: &Sysfs) -> Result<CardChoice, UnnamedCard> {
    // Without sysfs, no card of the machine could be opened.
    let functions = sysfs.functions().unwrap_or_default();
    let cards: Vec<_> =
        functions.iter().filter(|function| is_card(function)).map(Function::address).collect();
    if !cards.is_empty() {
        return Err(UnnamedCard(cards));
    }
    Ok(CardChoice::Emulated { like: DEFAULT.into(), card: Box::new(CardFile::f1()) })
}

fn is_card(function: &Function) -> bool {
    let ids = function.vendor().and_then(|vendor| Ok((vendor, function.device()?)));
    ids.is_ok_and(|(vendor, device)| Model::of(vendor, device).is_card())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_emulated_card_is_used_only_without_real_ones() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::new(root.path());
        assert_eq!(emulated_unless(&sysfs), Ok("f1".parse().unwrap()));
        for (address, vendor, device) in [
            ("0000:3b:00.0", "0x10ee", "0x9038"),
            ("0000:3c:00.0", "0x8086", "0x1533"),
            ("0000:5e:00.0", "0x1d0f", "0xf001"),
        ] {
            let directory = root.path().join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("vendor"), vendor).unwrap();
            fs::write(directory.join("device"), device).unwrap();
        }
        let error = emulated_unless(&sysfs).unwrap_err().to_string();
        assert!(error.contains("(0000:3b:00.0, 0000:5e:00.0)") && error.contains("--card f1"), "{error}");
    }

    #[test]
    fn a_named_card_is_used() {
        let choice: CardChoice = "alveo".parse().unwrap();
        assert_eq!(CardChoice::or_emulated(Some(&choice)), Ok(choice));
    }
}
