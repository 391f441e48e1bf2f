//! Standard output, and files.

use crate::failure::Failure;
use anyhow::{Context, Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write, stdout};
use std::path::Path;

/// Prints a line. A reader that went away, such as `head`, is an end, and no failure.
pub fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(failed)
}

/// What to make of output that could not be written.
pub fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::NobodyReads.into(),
        _ => Error::new(error).context("cannot write the output"),
    }
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
