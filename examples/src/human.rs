//! Numbers formatted for people.

use indicatif::{BinaryBytes, DecimalBytes, HumanCount};
use std::time::Duration;

/// Formats a count: `1,048,576`.
pub fn count(value: u64) -> HumanCount {
    HumanCount(value)
}

/// Formats a size in binary units: `96.00 MiB`, `512 B`.
pub fn bytes(value: u64) -> BinaryBytes {
    BinaryBytes(value)
}

/// Formats a time: `87.90ms`.
pub fn seconds(value: f64) -> String {
    format!("{:.2?}", Duration::from_secs_f64(value))
}

/// Formats a bandwidth in decimal units: `10.80 GB/s`.
pub fn bandwidth(bytes: u64, seconds: f64) -> String {
    format!("{}/s", DecimalBytes((bytes as f64 / seconds) as u64))
}
