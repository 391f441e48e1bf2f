//! Parsers of user input: PCI addresses, card names, descriptions of cards, fault plans, hugepage sizes and numbers.

use crate::number;
use vfio_setup::hugepages::Wanted;
use xdma::card::{CardName, PciAddress};
use xdma_emulated_card::CardChoice;
use xdma_emulator::CardFile;
use xdma_emulator::faults::Plan;

/// Parses arbitrary bytes with each parser. An accepted value, formatted and parsed again, must be the same.
pub fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<PciAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Ok(name) = text.parse::<CardName>() {
        assert_eq!(name.to_string().parse::<CardName>().ok(), Some(name));
    }
    if let Ok(choice) = text.parse::<CardChoice>() {
        assert_eq!(choice.to_string().parse(), Ok(choice));
    }
    if let Ok(card) = text.parse::<CardFile>() {
        assert_eq!(card.to_toml().parse::<CardFile>().expect("written descriptions can be read"), card);
    }
    if let Ok(plan) = toml::from_str::<Plan>(text) {
        let written = toml::to_string(&plan).expect("a parsed plan can be serialised");
        assert_eq!(toml::from_str(&written), Ok(plan));
    }
    if let Ok(Wanted(pools)) = text.parse() {
        assert!((1..=2).contains(&pools.len()));
    }
    if let Ok(value) = number::parse(text) {
        assert_eq!(number::parse(&value.to_string()), Ok(value));
        assert_eq!(number::parse(&format!("{value:#x}")), Ok(value));
    }
}
