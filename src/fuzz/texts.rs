//! What people type: addresses, card names, sizes, numbers; and files of the host that are text.

use crate::bus::PciAddress;
use crate::card::CardName;
use crate::emulator::Profile;
use crate::setup::hugepages::Wanted;

#[path = "../bin/xdma/number.rs"]
#[cfg_attr(fuzzing, expect(dead_code, reason = "the tool uses the rest"))]
mod number;

/// Any bytes as each of them; what is taken comes back as it is printed.
pub fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<PciAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Ok(name) = text.parse::<CardName>() {
        assert_eq!(name.to_string().parse::<CardName>().ok(), Some(name));
    }
    if let Ok(profile) = text.parse::<Profile>() {
        assert_eq!(profile.to_string(), text);
    }
    if let Ok(Wanted(pools)) = text.parse() {
        assert!((1..=2).contains(&pools.len()));
    }
    if let Ok(value) = number::parse(text) {
        assert_eq!(number::parse(&value.to_string()), Ok(value));
        assert_eq!(number::parse(&format!("{value:#x}")), Ok(value));
        assert_eq!(number::parse32(text).is_ok(), value <= u32::MAX.into());
    }
}
