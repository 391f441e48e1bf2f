//! Numbers for people.

use indicatif::{BinaryBytes, DecimalBytes, HumanCount};
use std::time::Duration;

/// `1,048,576`.
pub fn count(value: u64) -> HumanCount {
    HumanCount(value)
}

/// `96.00 MiB`, `512 B`.
pub fn bytes(value: u64) -> BinaryBytes {
    BinaryBytes(value)
}

/// `87.90ms`.
pub fn seconds(value: f64) -> String {
    format!("{:.2?}", Duration::from_secs_f64(value))
}

/// `10.80 GB/s`, decimal as bandwidths are.
pub fn bandwidth(bytes: u64, seconds: f64) -> String {
    format!("{}/s", DecimalBytes((bytes as f64 / seconds) as u64))
}
