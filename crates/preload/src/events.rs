//! Reads of event files. The flag of a user interrupt is a pipe that all of its event files share. It is set while the pipe is not
//! empty.

use crate::{errno, real};
use libc::{c_int, c_void};

/// Size in bytes of the value that a read returns.
const VALUE: usize = 4;
/// Number of bytes that are read from the pipe at once.
const CHUNK: usize = 4096;
const FULL: isize = CHUNK as isize;

/// Waits until the flag is set, clears it, and stores 1 in the buffer. Returns the result of `read`.
pub fn read(fd: c_int, buffer: *mut c_void, count: usize, offset: i64) -> isize {
    if count != VALUE || offset & 3 != 0 {
        return errno::fail(libc::EPROTO) as isize;
    }
    loop {
        let mut ready = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: the structure is valid for the call.
        if unsafe { libc::poll(&raw mut ready, 1, -1) } < 0 {
            return -1; // errno is set: EINTR after a signal
        }
        if ready.revents & libc::POLLIN == 0 {
            return errno::fail(libc::ENODEV) as isize; // no interrupt can occur any more
        }
        // Store before clearing the flag, so that the event is not lost if the buffer is invalid.
        if !store(buffer) {
            return errno::fail(libc::EFAULT) as isize;
        }
        match empty(fd) {
            Ok(true) => return VALUE as isize,
            Ok(false) => {} // another reader has cleared the flag
            Err(error) => return errno::fail(error) as isize,
        }
    }
}

/// Empties the pipe. Returns whether it contained anything.
fn empty(fd: c_int) -> Result<bool, c_int> {
    let (mut found, mut bytes) = (false, [0u8; CHUNK]);
    loop {
        // SAFETY: the buffer is valid for the call.
        match unsafe { real::read(fd, bytes.as_mut_ptr().cast(), CHUNK) } {
            FULL => found = true,
            0 => return Ok(found),
            1.. => return Ok(true),
            _ if errno::get() == libc::EAGAIN => return Ok(found),
            _ => return Err(errno::get()),
        }
    }
}

/// Stores 1 in the program's buffer. Returns false if the buffer is invalid.
fn store(buffer: *mut c_void) -> bool {
    let value = 1u32;
    let local = libc::iovec { iov_base: (&raw const value).cast_mut().cast(), iov_len: VALUE };
    let remote = libc::iovec { iov_base: buffer, iov_len: VALUE };
    // SAFETY: the kernel checks the program's address.
    let stored =
        unsafe { libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    stored == VALUE as isize
}
