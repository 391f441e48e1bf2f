//! Bounded reads of sysfs files, whose contents are treated as untrusted.

use crate::bus::PciAddress;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Maximum size of a file: sysfs shows at most one page, and 64 KiB is the largest common page size.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Maximum number of entries of a directory. A machine has a few hundred functions.
const MAX_ENTRIES: usize = 1 << 16;

/// Why sysfs could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysfsError {
    /// The function does not exist.
    #[error(
        "there is no PCI function {address}; `lspci -D` lists the functions of this machine; if an FPGA image was loaded, rescan the bus with `echo 1 | sudo tee /sys/bus/pci/rescan`"
    )]
    NoFunction {
        /// Address of the function.
        address: PciAddress,
    },
    /// A file, link or directory cannot be read.
    #[error("cannot read {}: {cause}; is sysfs mounted, and does the function still exist?", path.display())]
    Unreadable {
        /// The path that was read.
        path: PathBuf,
        /// The kernel's error.
        cause: io::Error,
    },
    /// A file has unexpected contents.
    #[error("{} contains `{text}`, which is not {expected}; this version does not support this kernel", path.display())]
    UnexpectedContents {
        /// The path that was read.
        path: PathBuf,
        /// The beginning of its contents.
        text: String,
        /// The expected contents.
        expected: &'static str,
    },
}

impl SysfsError {
    pub(super) fn garbage(path: &Path, text: &str, expected: &'static str) -> Self {
        let text = text.chars().take(40).flat_map(char::escape_debug).collect();
        Self::UnexpectedContents { path: path.into(), text, expected }
    }

    fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.into(), cause: source }
    }
}

/// Reads a regular file of at most `longest` bytes. Other files are not opened: a link in a tree that is not sysfs may lead to a
/// device that never ends, or to a FIFO that blocks the reader.
///
/// # Errors
///
/// The file is longer or is not a regular file, or the kernel reports an error.
pub fn bounded(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // The file may have been replaced since the check.
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

/// Returns the names in a directory, sorted, if it has at most `most` entries. Names that are not UTF-8 are omitted; the kernel
/// creates none.
///
/// # Errors
///
/// The directory has more entries, or the kernel reports an error.
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

/// Reads a file's text and trims surrounding whitespace.
pub fn required(path: &Path) -> Result<String, SysfsError> {
    let bytes = bounded(path, MAX_FILE_BYTES).map_err(|source| SysfsError::unreadable(path, source))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.trim().to_string()),
        Err(_) => Err(SysfsError::garbage(path, &String::from_utf8_lossy(&bytes), "text")),
    }
}

/// Reads a file's text, if the file exists.
pub fn optional(path: &Path) -> Result<Option<String>, SysfsError> {
    none_if_missing(required(path))
}

/// Reads a hexadecimal number of at most `bits` bits.
pub fn hex(path: &Path, bits: u32) -> Result<u64, SysfsError> {
    let text = required(path)?;
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number
        .filter(|number| number.checked_shr(bits).unwrap_or(0) == 0)
        .ok_or_else(|| SysfsError::garbage(path, &text, "a hexadecimal number"))
}

/// Returns the last component of a link's target, if the link exists.
pub fn link_name(path: &Path) -> Result<Option<String>, SysfsError> {
    let target = fs::read_link(path).map_err(|source| SysfsError::unreadable(path, source));
    let Some(target) = none_if_missing(target)? else { return Ok(None) };
    let name = target.file_name().and_then(|name| name.to_str());
    match name {
        Some(name) => Ok(Some(name.to_string())),
        None => Err(SysfsError::garbage(path, &target.to_string_lossy(), "a link to a directory")),
    }
}

/// Returns the names in a directory, sorted.
pub fn names(directory: &Path) -> Result<Vec<String>, SysfsError> {
    bounded_names(directory, MAX_ENTRIES).map_err(|source| SysfsError::unreadable(directory, source))
}

/// Returns the names in a directory; empty if the directory does not exist.
pub fn optional_names(directory: &Path) -> Result<Vec<String>, SysfsError> {
    Ok(none_if_missing(names(directory))?.unwrap_or_default())
}

fn none_if_missing<T>(result: Result<T, SysfsError>) -> Result<Option<T>, SysfsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(SysfsError::Unreadable { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
