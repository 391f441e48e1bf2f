//! The directory of `xdma run`, and the removal of directories that killed processes left behind.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The start of the directory's name.
const PREFIX: &str = "xdma-run-";
/// The directory of the counters for `--explain`.
const CALLS: &str = "calls";
/// The file that a program locks while it uses the card with `--exclusive`.
const LOCK: &str = "lock";
/// The permissions of the directory, at first and while a broker serves programs.
const MODE: u32 = 0o700;
const REACHABLE: u32 = 0o711;

/// A private directory, which is removed when dropped. A lock on it shows other processes that its owner is alive.
pub struct RunFolder {
    folder: TempDir,
    _lock: File,
}

impl RunFolder {
    /// Creates a directory for temporary files, and removes those of killed processes.
    pub fn create() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        loop {
            let mut builder = tempfile::Builder::new();
            let folder =
                builder.prefix(PREFIX).permissions(Permissions::from_mode(MODE)).tempdir_in(&parent)?;
            // Until the directory is locked, another process may remove it.
            let Some(lock) = locked(folder.path())? else { continue };
            let user = lock.metadata()?.uid();
            for entry in fs::read_dir(&parent)?.flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
                    // A directory that cannot be removed does no harm.
                    let _ = remove_if_stale(&entry.path(), user);
                }
            }
            return Ok(Self { folder, _lock: lock });
        }
    }

    /// Returns the path of the broker's socket. A program that changes its user can still reach it. The broker checks who
    /// connects.
    pub fn broker(&self) -> io::Result<PathBuf> {
        fs::set_permissions(self.folder.path(), Permissions::from_mode(REACHABLE))?;
        Ok(self.folder.path().join("broker"))
    }

    /// Returns the path of an emulated card's socket.
    pub fn card(&self) -> PathBuf {
        self.folder.path().join("card")
    }

    pub fn lock(&self) -> PathBuf {
        self.folder.path().join(LOCK)
    }

    pub fn calls(&self) -> PathBuf {
        self.folder.path().join(CALLS)
    }

    /// Creates the directory of [`calls`](Self::calls), only for this user.
    pub fn create_calls(&self) -> io::Result<()> {
        DirBuilder::new().mode(MODE).create(self.calls())
    }
}

/// Opens and locks a directory; `None` if it was removed before it was locked.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let folder = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    folder.lock()?;
    Ok(fs::exists(path)?.then_some(folder))
}

/// Removes a directory of this user whose process has ended, unless a program that outlived the process still uses the card.
fn remove_if_stale(path: &Path, user: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let folder =
        options.read(true).custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW).open(path)?;
    let status = folder.metadata()?;
    let is_own = status.uid() == user && [MODE, REACHABLE].contains(&(status.mode() & 0o777));
    if !is_own || folder.try_lock().is_err() {
        return Ok(());
    }
    if File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err()) {
        return Ok(());
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(parent: &Path, name: &str) -> PathBuf {
        let path = parent.join(name);
        DirBuilder::new().mode(MODE).create(&path).unwrap();
        fs::write(path.join(LOCK), "").unwrap();
        path
    }

    #[test]
    fn only_folders_of_ended_processes_of_this_user_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let user = fs::metadata(parent.path()).unwrap().uid();
        let remove = |path: &Path, user| {
            let _ = remove_if_stale(path, user);
            !path.exists()
        };
        let stale = folder(parent.path(), "stale");
        assert!(!remove(&stale, user + 1), "another user's");
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&stale, &link).unwrap();
        assert!(!remove(&link, user) && stale.exists(), "a link");
        let open = folder(parent.path(), "open");
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        assert!(!remove(&open, user), "not made by this program");
        let alive = locked(&stale).unwrap();
        assert!(!remove(&stale, user), "its process is alive");
        drop(alive);
        let program = File::open(stale.join(LOCK)).unwrap();
        program.lock().unwrap();
        assert!(!remove(&stale, user), "its program uses the card");
        drop(program);
        assert!(remove(&stale, user), "everything has ended");
        assert!(locked(&stale).unwrap().is_none());
    }
}
