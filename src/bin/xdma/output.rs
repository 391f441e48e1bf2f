//! Standard output.

use std::io::{Write, stdout};

/// Prints a line. A reader that went away, such as `head`, is no failure.
pub fn line(text: &str) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
