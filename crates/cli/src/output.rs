//! Writing to standard output and to files.

use crate::failure::Failure;
use anyhow::{Context, Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Write, stdout};
use std::path::Path;

/// Prints a line to standard output.
///
/// # Errors
///
/// [`Failure::OutputClosed`] if the reader, such as `head`, has closed the pipe; or the line cannot be written.
pub fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(failed)
}

/// Converts an error from writing output: a closed pipe becomes [`Failure::OutputClosed`].
pub fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed.into(),
        _ => Error::new(error).context("cannot write the output"),
    }
}

/// Creates a file, or truncates an existing one.
pub fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails if [`create`] would fail, without creating it or changing its content.
pub fn check_writable(path: &Path) -> Result<()> {
    let existed = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let checked = opened.and_then(|_| if existed { Ok(()) } else { std::fs::remove_file(path) });
    checked.with_context(|| format!("cannot write {}", path.display()))
}

/// Quotes an argument for a shell, if necessary.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:".contains(c);
    if argument.chars().all(plain) {
        argument.into()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}
