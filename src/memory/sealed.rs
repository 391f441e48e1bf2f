//! Memory files of fixed length: no process that shares one can cause SIGBUS by truncating it. (Punching holes into writable
//! hugepages still can.)

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// The seals of every such file, which fix its length.
pub(super) const FIXED: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// The processes that may write to a file after it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    /// Every process that has the file open.
    All,
    /// Only those with an existing writable mapping. No process can punch holes into the file.
    Mapped,
}

/// Creates a memory file that can be sealed and is closed on `exec`.
pub(super) fn create(name: &CStr, flags: u32) -> io::Result<File> {
    // SAFETY: the name is a C string; nothing else owns the new descriptor.
    unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}

/// Permanently fixes the length of `file` and who may write to it.
pub(super) fn seal(file: &File, writers: Writers) -> io::Result<()> {
    add_seals(file, FIXED)?;
    if writers == Writers::Mapped {
        match add_seals(file, libc::F_SEAL_FUTURE_WRITE) {
            // Linux before 5.1 does not support this seal.
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
    }
    add_seals(file, libc::F_SEAL_SEAL)
}

fn add_seals(file: &File, seals: i32) -> io::Result<()> {
    // SAFETY: fcntl with this command takes an integer and accesses no memory.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
