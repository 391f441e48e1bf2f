//! The few things that `vfio-setup` does to a running kernel, behind a trait: tests put a kernel of their own there.

use super::doctor::chain;
use super::mode;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use xdma::bus::{BusError, PciAddress};
use xdma::card::{Card, CardError, CardOptions};

/// Who may open a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} {:04o}", self.uid, self.gid, self.mode)
    }
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// Anything else.
    Other,
}

/// What tells a file from all others, however it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// What kind of file it is.
    pub kind: FileKind,
    /// The device of its file system, major and minor.
    pub device: (u32, u32),
    /// Its inode there.
    pub inode: u64,
    /// The device that it stands for, major and minor; zero for other files.
    pub number: (u32, u32),
}

/// What is done to a kernel. What it says is read from its files, below a root directory.
pub trait Kernel {
    /// Writes a file of the kernel's, in one piece.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Loads a module and what it needs.
    ///
    /// # Errors
    ///
    /// There is no such module, or it cannot be loaded.
    fn load_module(&self, name: &str) -> io::Result<()>;

    /// Whether the kernel itself holds a disk: mounted, swap, or part of a pool of whatever kind.
    fn is_held(&self, disk: &Path) -> bool;

    /// What a file is that a name or a link of `/proc` leads to. Its file system is not asked: a user's own (FUSE) may never answer.
    ///
    /// # Errors
    ///
    /// There is no such file, or this user may not see it.
    fn identify(&self, path: &Path) -> io::Result<FileId>;

    /// Opens a card by the first of these ways that the library takes, and closes it, which leaves its control registers at their
    /// reset values.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is no XDMA card. [`io::ErrorKind::TimedOut`] if it is being opened still.
    fn quiesce(&self, address: PciAddress, modes: &[mode::Mode]) -> io::Result<()>;

    /// Waits until udev has seen what happened so far, if there is udev.
    fn settle(&self);

    /// Who may open a node.
    ///
    /// # Errors
    ///
    /// There is no such node, or it is a symbolic link.
    fn owner(&self, node: &Path) -> io::Result<Owner>;

    /// Says who may open a node.
    ///
    /// # Errors
    ///
    /// What the kernel says; it is a symbolic link.
    fn set_owner(&self, node: &Path, owner: Owner) -> io::Result<()>;
}

/// The kernel that runs this, seen below a root directory.
#[derive(Clone, Debug)]
pub struct Live {
    root: PathBuf,
}

/// Programs are looked for here only, whatever `PATH` says.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

impl Live {
    /// Writes go below `root`; modules are only loaded if that is `/`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

/// How long opening and closing a card may take. The library's own waits end within seconds; the kernel waits for up to a minute
/// for the reset of a card that is gone.
const QUIESCE: Duration = Duration::from_secs(90);

/// Opens a card, with the modes of this function and not those of the environment, and closes it.
fn open_and_close(address: PciAddress, modes: &[mode::Mode]) -> io::Result<()> {
    let mut reason = io::Error::other("there is no way to it");
    for &mode in modes {
        let options = CardOptions { mode: Some(mode), ..CardOptions::default() };
        match Card::open(address, options) {
            Ok(card) => {
                drop(card);
                return Ok(());
            }
            Err(error) => {
                // Only what says nothing of the card leaves the next way to try, as for the library itself.
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

/// What a file of sysfs says that its file system is (`SYSFS_MAGIC`).
const SYSFS: i64 = 0x6265_6572;

impl Live {
    fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Opens a file that is there, for writing. Links on the way to it, of which sysfs is full, lead nowhere outside the root, and
    /// it is none itself.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let root =
            rustix::fs::open(&self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let inside = path.strip_prefix(&self.root).map_err(io::Error::other)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(root, inside, flags, Mode::empty(), within)?)
    }

    /// A node, held and not opened, which would take the card. Whatever becomes of its name, this is what was looked at.
    fn hold(&self, node: &Path) -> io::Result<OwnedFd> {
        let held = rustix::fs::open(node, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) {
            FileType::Symlink => {
                Err(io::Error::other("it is a symbolic link, which a node of the kernel is not"))
            }
            FileType::CharacterDevice => Ok(held),
            _ if self.is_system() => Err(io::Error::other("it is no character device, which each node is")),
            _ => Ok(held),
        }
    }
}

/// A program of the system with nothing of this process's environment.
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

impl Kernel for Live {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let file = self.open(path)?;
        if self.is_system() && rustix::fs::fstatfs(&file)?.f_type != SYSFS {
            return Err(io::Error::other("it is no file of sysfs, and nothing else is written to"));
        }
        // The kernel takes each write for a whole value: a rest must not become a second one.
        match rustix::io::write(&file, text.as_bytes())? {
            n if n == text.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::WriteZero, "only a part of it was taken")),
        }
    }

    fn load_module(&self, name: &str) -> io::Result<()> {
        if !self.is_system() {
            return Err(io::Error::other("modules are loaded into the running system only, not with --root"));
        }
        let output = program("modprobe")?.arg("--").arg(name).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("modprobe: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }

    fn is_held(&self, disk: &Path) -> bool {
        // Without creating, this asks for a block device that nobody else has asked for so.
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
            return Err(io::Error::other("with --root nothing is opened"));
        }
        let (modes, (done, ended)) = (modes.to_vec(), mpsc::sync_channel(1));
        thread::Builder::new().name("quiesce".into()).spawn(move || {
            // Nobody may wait any more.
            let _ = done.send(open_and_close(address, &modes));
        })?;
        let late = |_| {
            let text = format!(
                "the kernel has not opened and closed it within {QUIESCE:?}; `dmesg` may say why, and the next try may succeed"
            );
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        ended.recv_timeout(QUIESCE).map_err(late)?
    }

    fn settle(&self) {
        if !self.is_system() || !Path::new("/run/udev/control").exists() {
            return;
        }
        // It only orders our changes after udev's. What comes of them is read back.
        if let Ok(mut udevadm) = program("udevadm") {
            let _ =
                udevadm.args(["settle", "--timeout=10"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }

    fn owner(&self, node: &Path) -> io::Result<Owner> {
        let data = rustix::fs::fstat(self.hold(node)?)?;
        Ok(Owner { uid: data.st_uid, gid: data.st_gid, mode: data.st_mode & 0o7777 })
    }

    fn set_owner(&self, node: &Path, owner: Owner) -> io::Result<()> {
        let held = self.hold(node)?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::chownat(&held, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        // What is only held cannot be changed itself, but by this name.
        let name = format!("/proc/self/fd/{}", held.as_raw_fd());
        rustix::fs::chmod(name, Mode::from_raw_mode(owner.mode))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_the_systems_and_see_nothing_of_the_environment() {
        // There is more than this in the environment of a test.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let mut env = program("env").unwrap();
        assert!(DIRECTORIES.iter().any(|directory| Path::new(env.get_program()).starts_with(directory)));
        let seen = String::from_utf8(env.output().unwrap().stdout).unwrap();
        assert_eq!(seen, format!("PATH={}\n", DIRECTORIES.join(":")));
        assert!(program("no-such-program").is_err());
    }
}
