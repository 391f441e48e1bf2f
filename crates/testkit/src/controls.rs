//! The control registers of a card.

use std::collections::BTreeMap;
use xdma::card::Card;
use xdma::regs::MAX_CHANNELS;
use xdma::regs::map::{Access, Block};

/// The values of all registers of the core that can be written and read back, by name.
pub type Controls = BTreeMap<String, u64>;

/// Reads the control registers. Open the card with `CardOptions::as_found`, which leaves them unchanged.
pub fn read(card: &Card) -> Controls {
    let mut controls = BTreeMap::new();
    for block in Block::of_core(MAX_CHANNELS, MAX_CHANNELS) {
        for reading in card.read_block(&block, false).expect("the card can be read") {
            if let (Access::Rw, Some(value)) = (reading.register.access, reading.value) {
                controls.insert(format!("{} {} {}", block.name, reading.register.name, reading.index), value);
            }
        }
    }
    controls
}

/// Returns the registers that have changed, with their new values.
pub fn changed<'a>(before: &Controls, now: &'a Controls) -> Vec<(&'a String, &'a u64)> {
    now.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect()
}
