//! Files that the command line names.

use nix::errno::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use vfio_setup::file_remedy;

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}; {}", path.display(), file_remedy(source))]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Returns a function that adds the path and a remedy to the error of an action, such as "write".
pub fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.into();
    move |source| FileError { action, path, source }
}

/// Opens a file for reading. Fails for a directory.
pub fn open(path: &Path) -> Result<File, FileError> {
    let open = || {
        let file = File::open(path)?;
        // The kernel refuses a directory only at the first read.
        if file.metadata()?.is_dir() { Err(Errno::EISDIR.into()) } else { Ok(file) }
    };
    open().map_err(cannot("read", path))
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(cannot("read", path))
}

/// Creates a file, or truncates an existing one.
pub fn create(path: &Path) -> Result<File, FileError> {
    File::create(path).map_err(cannot("write", path))
}

/// Fails if [`create`] would fail, without creating the file or changing its content.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    let existed = path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    let checked = opened.and_then(|_| if existed { Ok(()) } else { fs::remove_file(path) });
    checked.map_err(cannot("write", path))
}
