//! Memory files of fixed length: no process that shares one can cause SIGBUS by truncating it. (Holes punched in writable hugepages
//! still can.)

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// The seals that every such file has: its length stays.
pub(super) const FIXED: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// Who may write to a file from the moment it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    /// Every process that has it.
    All,
    /// Only the writable mappings that exist already. No process can punch holes into it either.
    Mapped,
}

/// A memory file that can be sealed and that `exec` does not inherit.
pub(super) fn create(name: &CStr, flags: u32) -> io::Result<File> {
    // SAFETY: the name is a C string; the descriptor that comes back is ours alone.
    unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}

/// Fixes the length of `file` and who may write to it, for good.
pub(super) fn seal(file: &File, writers: Writers) -> io::Result<()> {
    add(file, FIXED)?;
    if writers == Writers::Mapped {
        match add(file, libc::F_SEAL_FUTURE_WRITE) {
            // Linux before 5.1 cannot restrict writing.
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
    }
    add(file, libc::F_SEAL_SEAL)
}

fn add(file: &File, seals: i32) -> io::Result<()> {
    // SAFETY: fcntl with this command takes an integer and touches no memory.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
