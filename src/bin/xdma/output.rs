//! Standard output, and files.

use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{Write, stdout};
use std::path::Path;

/// Prints a line. A reader that went away, such as `head`, is no failure.
pub fn line(text: &str) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Makes a file, or empties the one that is there.
pub fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails if [`create`] would. What is in the file stays.
pub fn can_create(path: &Path) -> Result<()> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).with_context(|| format!("cannot write {}", path.display()))
}
