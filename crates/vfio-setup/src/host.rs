//! Access to a host: a directory tree to read, and operations that change the state of its kernel.

use super::kernel::{Kernel, RunningKernel};
use super::{Refusal, SetupError};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use xdma::unstable::bus::sysfs::{Sysfs, bounded, bounded_names};

/// Maximum size of a file in bytes. The longest is `/proc/PID/maps` of a process with many mappings.
const MAX_SIZE: u64 = 64 << 20;
/// Maximum number of names in a directory.
const MAX_NAMES: usize = 1 << 16;
/// Maximum number of entries in `/proc` or `/proc/PID/fd`. The kernel allows four million processes.
const MAX_NUMBERS: usize = 5 << 20;

/// A host below a root directory.
pub struct Host {
    sysfs: Sysfs,
    kernel: Box<dyn Kernel>,
}

impl Host {
    /// Creates a host below `root`, which is `/` except in tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self::with_kernel(root.clone(), Box::new(RunningKernel::new(root)))
    }

    /// Creates a host with another kernel.
    pub fn with_kernel(root: impl Into<PathBuf>, kernel: Box<dyn Kernel>) -> Self {
        Self { sysfs: Sysfs::new(root), kernel }
    }

    /// Returns the PCI functions of the host.
    pub fn sysfs(&self) -> &Sysfs {
        &self.sysfs
    }

    /// Returns the kernel of the host.
    pub(super) fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
    }

    /// Returns whether this is the running system.
    pub fn is_system(&self) -> bool {
        self.sysfs.root() == Path::new("/")
    }

    /// Returns the path of a file below the root. `path` has no leading slash.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.sysfs.root().join(path)
    }

    /// Returns the path of a file as seen inside the root.
    pub(super) fn shown(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.sysfs.root()).unwrap_or(path);
        Path::new("/").join(inside).display().to_string()
    }

    /// Reads a file and trims its text. Returns `None` if there is no such file.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, SetupError> {
        read(&self.path(path))
    }

    /// Reads at most `length` bytes from the beginning of a file whose content sysfs reads from the device. Returns no bytes if
    /// there is no such file.
    pub(super) fn beginning(&self, path: &str, length: usize) -> Result<Vec<u8>, SetupError> {
        let path = self.path(path);
        match beginning(&path, length) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            bytes => bytes.map_err(|source| SetupError::io(&path, source)),
        }
    }

    /// Returns the names in a directory, sorted, or nothing if there is no such directory.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, SetupError> {
        self.names_up_to(path, MAX_NAMES)
    }

    /// Returns the names in `/proc` or `/proc/PID/fd`.
    pub(super) fn numbers(&self, path: &str) -> Result<Vec<String>, SetupError> {
        self.names_up_to(path, MAX_NUMBERS)
    }

    fn names_up_to(&self, path: &str, most: usize) -> Result<Vec<String>, SetupError> {
        let path = self.path(path);
        match bounded_names(&path, most) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|source| SetupError::io(&path, source)),
        }
    }

    /// Checks that this process is root, because changes to the running system need root.
    pub(super) fn require_root(&self) -> Result<(), SetupError> {
        if self.is_system() && !rustix::process::geteuid().is_root() {
            return Err(Refusal::NotRoot.into());
        }
        Ok(())
    }
}

/// Reads a file and trims its text. Returns `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, SetupError> {
    match bounded(path, MAX_SIZE) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SetupError::io(path, source)),
    }
}

fn beginning(path: &Path, length: usize) -> io::Result<Vec<u8>> {
    // Opening a pipe blocks, and reading an endless file never ends.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
