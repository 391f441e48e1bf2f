//! Comparing a card with the description that was given for it.

use anyhow::Result;
use serde_json::{Map, Value};
use xdma_emulator::CardFile;

/// Returns a description that keeps only what identifies a card. All other values are the same for every card.
pub fn identity_of(file: &CardFile) -> CardFile {
    let mut card = file.clone();
    (card.name, card.notes) = (String::new(), vec![]);
    // The state of the link depends on the slot.
    (card.function.link.generation, card.function.link.lanes) = (1, 1);
    for bar in &mut card.bars {
        (bar.holds, bar.user_offset, bar.reserved) = Default::default();
    }
    (card.channels.fixed_address, card.channels.credits) = Default::default();
    (card.switches, card.logic) = Default::default();
    card
}

/// Returns the keys whose values differ. Keys that are unknown in either description are ignored.
pub fn differences(expected: &CardFile, seen: &CardFile) -> Result<Vec<String>> {
    let (expected, seen) = (serde_json::to_value(expected)?, serde_json::to_value(seen)?);
    let mut found = vec![];
    compare("", &expected, &seen, &mut found);
    Ok(found)
}

fn compare(key: &str, expected: &Value, seen: &Value, found: &mut Vec<String>) {
    let inside = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (expected, seen) {
        (Value::Object(a), Value::Object(b)) => {
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                let of = |object: &Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                compare(&inside(name), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{key}[{at}]"), a, b, found);
            }
        }
        (Value::String(unknown), _) | (_, Value::String(unknown)) if unknown == "unknown" => {}
        (a, b) if a != b => found.push(format!("{key} is {b}, not {a}")),
        _ => {}
    }
}
