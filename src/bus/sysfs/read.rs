//! Reading files that the kernel makes up, without trusting that it did.

use crate::bus::PciAddress;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Sysfs shows at most a page, of the processor with the largest.
const LONGEST: u64 = 64 << 10;
/// Names in a directory at most. A machine has some hundred functions.
const MOST_NAMES: usize = 1 << 16;

/// What cannot be read in sysfs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysfsError {
    /// There is no such function.
    #[error(
        "there is no PCI function {address}; `lspci -D` lists those that are there (loading an FPGA image removes and adds functions: `echo 1 > /sys/bus/pci/rescan`)"
    )]
    NoFunction {
        /// What was looked for.
        address: PciAddress,
    },
    /// A file, link or directory cannot be read.
    #[error("cannot read {}: {cause}; is sysfs mounted, and did the function go away?", path.display())]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A file says something else than it should.
    #[error("{} says `{text}`, which is not {expected}; this kernel is unknown to this version", path.display())]
    Garbage {
        /// What was read.
        path: PathBuf,
        /// What it said, in part.
        text: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl SysfsError {
    pub(super) fn garbage(path: &Path, text: &str, expected: &'static str) -> Self {
        let text = text.chars().take(40).flat_map(char::escape_debug).collect();
        Self::Garbage { path: path.into(), text, expected }
    }

    fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.into(), cause: source }
    }
}

/// Reads a file of at most `longest` bytes. Nothing else is opened: a device or a FIFO, to which a link in a tree that is not
/// sysfs may lead, has no end, or makes the reader wait for one.
///
/// # Errors
///
/// It is longer, no regular file, or what the kernel says.
pub fn bounded(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // It may have been replaced since.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {longest} bytes"),
        ));
    }
    Ok(bytes)
}

/// Names in a directory, sorted, `most` of them at most. Names that are not UTF-8 are none of the kernel's.
///
/// # Errors
///
/// There are more, or what the kernel says.
pub fn bounded_names(directory: &Path, most: usize) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for (index, entry) in fs::read_dir(directory)?.enumerate() {
        if index >= most {
            return Err(io::Error::other(format!("it has more than {most} entries")));
        }
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// A file's text, without blanks around it.
pub fn required(path: &Path) -> Result<String, SysfsError> {
    let bytes = bounded(path, LONGEST).map_err(|source| SysfsError::unreadable(path, source))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.trim().to_string()),
        Err(_) => Err(SysfsError::garbage(path, &String::from_utf8_lossy(&bytes), "text")),
    }
}

/// A file's text, if there is such a file.
pub fn optional(path: &Path) -> Result<Option<String>, SysfsError> {
    absent(required(path))
}

/// A hexadecimal number of at most `bits` bits.
pub fn hex(path: &Path, bits: u32) -> Result<u64, SysfsError> {
    let text = required(path)?;
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number
        .filter(|number| number.checked_shr(bits).unwrap_or(0) == 0)
        .ok_or_else(|| SysfsError::garbage(path, &text, "a hexadecimal number"))
}

/// The last part of where a link points to, if there is such a link.
pub fn link_name(path: &Path) -> Result<Option<String>, SysfsError> {
    let target = fs::read_link(path).map_err(|source| SysfsError::unreadable(path, source));
    let Some(target) = absent(target)? else { return Ok(None) };
    let name = target.file_name().and_then(|name| name.to_str());
    match name {
        Some(name) => Ok(Some(name.to_string())),
        None => Err(SysfsError::garbage(path, &target.to_string_lossy(), "a link to a directory")),
    }
}

/// Names in a directory, sorted.
pub fn names(directory: &Path) -> Result<Vec<String>, SysfsError> {
    bounded_names(directory, MOST_NAMES).map_err(|source| SysfsError::unreadable(directory, source))
}

/// Names in a directory, none if there is no such directory.
pub fn optional_names(directory: &Path) -> Result<Vec<String>, SysfsError> {
    Ok(absent(names(directory))?.unwrap_or_default())
}

fn absent<T>(result: Result<T, SysfsError>) -> Result<Option<T>, SysfsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(SysfsError::Unreadable { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
