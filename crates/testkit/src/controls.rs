//! What a card is left with: its control registers.

use std::collections::BTreeMap;
use xdma::card::Card;
use xdma::regs::MAX_CHANNELS;
use xdma::regs::map::{Access, Block};

/// Every register of the core that can be written and read back, by name.
pub type Controls = BTreeMap<String, u64>;

/// Reads them from a card that was opened as it was found.
pub fn read(card: &Card) -> Controls {
    let mut found = BTreeMap::new();
    for block in Block::of_core(MAX_CHANNELS, MAX_CHANNELS) {
        for reading in card.read_block(&block, false).expect("the card is there") {
            if let (Access::Rw, Some(value)) = (reading.register.access, reading.value) {
                found.insert(format!("{} {} {}", block.name, reading.register.name, reading.index), value);
            }
        }
    }
    found
}

/// Those that changed, with what they are now.
pub fn changed<'a>(before: &Controls, now: &'a Controls) -> Vec<(&'a String, &'a u64)> {
    now.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect()
}
