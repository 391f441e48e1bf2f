//! The repository's directories.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// This repository and its target directory.
pub struct Workspace {
    /// The root of the repository.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Workspace {
    /// Returns the workspace that this program was built from.
    pub fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ is in the workspace");
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Self { root: root.to_path_buf(), target: root.join(target) }
    }

    /// Returns the prefix for downloads of suites. Its `bin` comes first in the search path.
    pub fn prefix(&self) -> PathBuf {
        self.target.join("prefix")
    }

    /// Returns the directory of the logs.
    pub fn log_dir(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// Creates a directory for the files of a suite, which are kept for inspection.
    pub fn work_dir(&self, suite: &str) -> Result<PathBuf> {
        let dir = self.log_dir().join(suite);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    }
}
