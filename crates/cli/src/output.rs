//! Writing to standard output.

use crate::failure::Failure;
use anyhow::{Error, Result, anyhow};
use std::io::{self, Write, stdout};
use vfio_setup::file_remedy;

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
        _ => anyhow!("cannot write the output: {error}; {}", file_remedy(&error)),
    }
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
