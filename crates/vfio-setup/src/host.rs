//! A host: what its files say, and a kernel to write to.

use super::kernel::{Kernel, Live};
use super::{Refusal, SetupError};
use std::io;
use std::path::{Path, PathBuf};
use xdma::bus::sysfs::{Sysfs, bounded, bounded_names};

/// Bytes of a file at most: `/proc/PID/maps` of a process with very many mappings is the longest.
const LONGEST: u64 = 64 << 20;
/// Names in a directory at most.
const MOST_NAMES: usize = 1 << 16;
/// Numbers in a directory at most: the kernel allows four million processes.
const MOST_NUMBERS: usize = 5 << 20;

/// A host below a root directory.
pub struct Host {
    sysfs: Sysfs,
    kernel: Box<dyn Kernel>,
}

impl Host {
    /// The host below `root`, which is `/` but for tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self::with_kernel(root.clone(), Box::new(Live::new(root)))
    }

    /// A host whose kernel is another.
    pub fn with_kernel(root: impl Into<PathBuf>, kernel: Box<dyn Kernel>) -> Self {
        Self { sysfs: Sysfs::new(root), kernel }
    }

    /// Its PCI functions.
    pub fn sysfs(&self) -> &Sysfs {
        &self.sysfs
    }

    /// Its kernel.
    pub(super) fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
    }

    /// Whether it is the running system.
    pub fn is_system(&self) -> bool {
        self.sysfs.root() == Path::new("/")
    }

    /// Where a file of the host is: `path` without its leading slash, below the root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.sysfs.root().join(path)
    }

    /// The name of a file as the host itself knows it.
    pub(super) fn shown(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.sysfs.root()).unwrap_or(path);
        Path::new("/").join(inside).display().to_string()
    }

    /// A file's text without blanks around it, if there is such a file.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, SetupError> {
        read(&self.path(path))
    }

    /// A directory's names, sorted; none if there is no such directory.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, SetupError> {
        self.names_up_to(path, MOST_NAMES)
    }

    /// The names of `/proc`, or of what a process has open.
    pub(super) fn numbers(&self, path: &str) -> Result<Vec<String>, SetupError> {
        self.names_up_to(path, MOST_NUMBERS)
    }

    fn names_up_to(&self, path: &str, most: usize) -> Result<Vec<String>, SetupError> {
        let path = self.path(path);
        match bounded_names(&path, most) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|source| SetupError::io(&path, source)),
        }
    }

    /// Changes need root.
    pub(super) fn require_root(&self) -> Result<(), SetupError> {
        if self.is_system() && !rustix::process::geteuid().is_root() {
            return Err(Refusal::NotRoot.into());
        }
        Ok(())
    }
}

/// A file's text without blanks around it, if there is such a file.
pub(super) fn read(path: &Path) -> Result<Option<String>, SetupError> {
    match bounded(path, LONGEST) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SetupError::io(path, source)),
    }
}
