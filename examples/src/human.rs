//! Numbers, errors and help formatted for people.

use indicatif::{BinaryBytes, DecimalBytes, HumanCount};
use std::path::Path;
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

/// Describes an error about a file, with a remedy. `action` is what cannot be done, such as "read".
pub fn cannot(action: &str, path: &Path) -> String {
    format!(
        "cannot {action} {}; check that it is a file, that its directory exists, and that you may access both (`ls -ld`)",
        path.display()
    )
}

/// Returns the width of help for clap's `term_width`: the width of the terminal, at most 100. If standard output is not a terminal,
/// returns 0, so that lines are not wrapped.
pub fn help_width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(0, |(width, _)| width.0.min(100).into())
}
