//! The folders that everything happens in.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// This repository and its target directory.
pub struct Workspace {
    /// The root of the repository.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the workspace");
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Self { root: root.to_path_buf(), target: root.join(target) }
    }

    /// Where suites install what they download. Programs are looked up in its `bin` first.
    pub fn prefix(&self) -> PathBuf {
        self.target.join("prefix")
    }

    /// The folder of the logs.
    pub fn logs(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// A folder for the files of a suite, kept for inspection.
    pub fn work(&self, suite: &str) -> Result<PathBuf> {
        let folder = self.logs().join(suite);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }
}
