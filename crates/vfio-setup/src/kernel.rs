//! The interface to the running kernel, as a trait that tests can implement.

use super::doctor::chain;
use super::mode;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use xdma::card::{BusError, Card, CardError, CardOptions, PciAddress};
use xdma::unstable::bus::{Bar, Resource};

/// Owner and permissions of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Owner {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} {:04o}", self.uid, self.gid, self.mode)
    }
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// Anything else.
    Other,
}

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The type of the file.
    pub kind: FileKind,
    /// Major and minor number of the device that holds its file system.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Major and minor number of a device node; zero for other files.
    pub number: (u32, u32),
}

/// Operations on the kernel. State is read from the kernel's files, below a root directory.
pub trait Kernel {
    /// Writes a file of the kernel with a single system call.
    ///
    /// # Errors
    ///
    /// The error of the kernel.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Loads a module and its dependencies.
    ///
    /// # Errors
    ///
    /// There is no such module, or it cannot be loaded.
    fn load_module(&self, name: &str) -> io::Result<()>;

    /// Returns whether the kernel itself uses a disk: it is mounted, used for swap, or part of a pool of any kind.
    fn is_held(&self, disk: &Path) -> bool;

    /// Identifies the file that a name or a link in `/proc` leads to, without a request to its file system, since a user's FUSE file
    /// system may never answer.
    ///
    /// # Errors
    ///
    /// There is no such file, or this user has no permission to see it.
    fn identify(&self, path: &Path) -> io::Result<FileId>;

    /// Opens a card in the first of the modes that works, and closes it, which leaves its control registers at their reset values.
    ///
    /// # Errors
    ///
    /// The card cannot be opened, or it is not an XDMA card. [`io::ErrorKind::TimedOut`] if the attempt is still in progress.
    fn quiesce(&self, address: PciAddress, modes: &[mode::Mode]) -> io::Result<()>;

    /// Waits for this time.
    fn sleep(&self, time: Duration);

    /// Maps a BAR through its file in sysfs.
    ///
    /// # Errors
    ///
    /// That of the kernel.
    fn map_bar(&self, path: &Path) -> io::Result<Arc<dyn Bar>>;

    /// Waits until udev has processed all events so far, if udev is running.
    fn settle(&self);

    /// Returns the owner of a node.
    ///
    /// # Errors
    ///
    /// There is no such node, or it is a symbolic link.
    fn owner(&self, node: &Path) -> io::Result<Owner>;

    /// Sets the owner of a node.
    ///
    /// # Errors
    ///
    /// The error of the kernel, or the node is a symbolic link.
    fn set_owner(&self, node: &Path, owner: Owner) -> io::Result<()>;
}

/// The running kernel, with its files below a root directory.
#[derive(Clone, Debug)]
pub struct RunningKernel {
    root: PathBuf,
    register_bar: Option<usize>,
}

/// Directories that are searched for programs, instead of `PATH`.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

impl RunningKernel {
    /// Creates an interface that writes below `root`. If `root` is not `/`, modules are not loaded and cards are not opened.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), register_bar: None }
    }

    /// Names the BAR with the XDMA registers of the cards that are brought to rest.
    #[must_use]
    pub fn with_register_bar(self, register_bar: Option<usize>) -> Self {
        Self { register_bar, ..self }
    }
}

/// Time limit for opening a card and closing it again, together. The library's own waits end within seconds, and the kernel waits
/// for up to a minute for the reset of a card that is gone.
const QUIESCE_LIMIT: Duration = Duration::from_secs(90);

/// Opens a card in one of the modes, without regard to `XDMA_VFIO`, and closes it.
fn open_and_close(address: PciAddress, modes: &[mode::Mode], register_bar: Option<usize>) -> io::Result<()> {
    let mut reason = io::Error::other("it cannot be opened in any VFIO mode");
    for &mode in modes {
        let options = CardOptions { mode: Some(mode), register_bar, ..CardOptions::default() };
        match Card::open(address, options) {
            Ok(card) => {
                drop(card);
                return Ok(());
            }
            Err(error) => {
                // As in the library, the next mode is tried only after an error that is not about the card itself.
                let is_mode = matches!(
                    &error,
                    CardError::Bus(
                        BusError::NoMode { .. } | BusError::NotFound { .. } | BusError::Permission { .. }
                    )
                );
                reason = io::Error::other(chain(&error));
                if !is_mode {
                    break;
                }
            }
        }
    }
    Err(reason)
}

/// File system type of sysfs (`SYSFS_MAGIC`).
const SYSFS: i64 = 0x6265_6572;

impl RunningKernel {
    fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Opens an existing file. Symbolic links in its path, which are common in sysfs, are resolved inside the root; the
    /// file itself must not be a link.
    fn open(&self, path: &Path, access: OFlags) -> io::Result<OwnedFd> {
        let root =
            rustix::fs::open(&self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let inside = path.strip_prefix(&self.root).map_err(io::Error::other)?;
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(root, inside, flags, Mode::empty(), within)?)
    }

    /// Opens a node as a path only, since opening it normally would open the card. The descriptor refers to the checked node even if
    /// its name is replaced later.
    fn open_path(&self, node: &Path) -> io::Result<OwnedFd> {
        let held = rustix::fs::open(node, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) {
            FileType::Symlink => Err(io::Error::other("it is a symbolic link, not a device node")),
            FileType::CharacterDevice => Ok(held),
            _ if self.is_system() => Err(io::Error::other("it is not a character device")),
            _ => Ok(held),
        }
    }
}

/// Returns a program of the system, with an environment that inherits nothing from this process.
fn program(name: &str) -> io::Result<Command> {
    let found =
        DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    let path = found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no {name} in {}", DIRECTORIES.join(", ")))
    })?;
    let mut command = Command::new(path);
    command.env_clear().env("PATH", DIRECTORIES.join(":")).current_dir("/").stdin(Stdio::null());
    Ok(command)
}

impl Kernel for RunningKernel {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let file = self.open(path, OFlags::WRONLY)?;
        if self.is_system() && rustix::fs::fstatfs(&file)?.f_type != SYSFS {
            return Err(io::Error::other("the file is not in sysfs"));
        }
        // The kernel takes each write as a complete value, so the rest of a partial write must not be written separately.
        match rustix::io::write(&file, text.as_bytes())? {
            n if n == text.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::WriteZero, "the kernel accepted only part of the value")),
        }
    }

    fn load_module(&self, name: &str) -> io::Result<()> {
        if !self.is_system() {
            return Err(io::Error::other(
                "modules can be loaded only into the running system, not with --root",
            ));
        }
        let output = program("modprobe")?.arg("--").arg(name).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("modprobe: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }

    fn is_held(&self, disk: &Path) -> bool {
        // For a block device, O_EXCL without O_CREAT fails with EBUSY if the device is in use.
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        matches!(rustix::fs::open(disk, flags, Mode::empty()), Err(Errno::BUSY))
    }

    fn identify(&self, path: &Path) -> io::Result<FileId> {
        let wanted = StatxFlags::TYPE | StatxFlags::INO;
        let data = rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, wanted)?;
        let kind = match FileType::from_raw_mode(data.stx_mode.into()) {
            FileType::CharacterDevice => FileKind::Character,
            FileType::BlockDevice => FileKind::Block,
            _ => FileKind::Other,
        };
        Ok(FileId {
            kind,
            device: (data.stx_dev_major, data.stx_dev_minor),
            inode: data.stx_ino,
            number: (data.stx_rdev_major, data.stx_rdev_minor),
        })
    }

    fn quiesce(&self, address: PciAddress, modes: &[mode::Mode]) -> io::Result<()> {
        if !self.is_system() {
            return Err(io::Error::other("cards are not opened with --root"));
        }
        let (modes, register_bar) = (modes.to_vec(), self.register_bar);
        let (done, ended) = mpsc::sync_channel(1);
        thread::Builder::new().name("quiesce".into()).spawn(move || {
            // After the time limit, the receiver is gone.
            let _ = done.send(open_and_close(address, &modes, register_bar));
        })?;
        let late = |_| {
            let text = format!(
                "opening and closing the card did not finish within {QUIESCE_LIMIT:?}; the kernel log (`dmesg`) may show the reason, and another attempt may succeed"
            );
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        ended.recv_timeout(QUIESCE_LIMIT).map_err(late)?
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }

    fn map_bar(&self, path: &Path) -> io::Result<Arc<dyn Bar>> {
        Ok(Arc::new(Resource::map(&self.open(path, OFlags::RDWR)?.into())?))
    }

    fn settle(&self) {
        if !self.is_system() || !Path::new("/run/udev/control").exists() {
            return;
        }
        // Errors are ignored: this only orders our changes after those of udev, and our changes are read back.
        if let Ok(mut udevadm) = program("udevadm") {
            let _ =
                udevadm.args(["settle", "--timeout=10"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }

    fn owner(&self, node: &Path) -> io::Result<Owner> {
        let data = rustix::fs::fstat(self.open_path(node)?)?;
        Ok(Owner { uid: data.st_uid, gid: data.st_gid, mode: data.st_mode & 0o7777 })
    }

    fn set_owner(&self, node: &Path, owner: Owner) -> io::Result<()> {
        let held = self.open_path(node)?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::chownat(&held, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        // fchmod rejects a path-only descriptor; its link in /proc works.
        let name = format!("/proc/self/fd/{}", held.as_raw_fd());
        rustix::fs::chmod(name, Mode::from_raw_mode(owner.mode))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_the_systems_and_do_not_inherit_the_environment() {
        // The environment of a test contains more than PATH.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let mut env = program("env").unwrap();
        assert!(DIRECTORIES.iter().any(|directory| Path::new(env.get_program()).starts_with(directory)));
        let seen = String::from_utf8(env.output().unwrap().stdout).unwrap();
        assert_eq!(seen, format!("PATH={}\n", DIRECTORIES.join(":")));
        assert!(program("no-such-program").is_err());
    }
}
