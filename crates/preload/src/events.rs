//! Reads of event files. The flag of a user interrupt is an eventfd that all of its event files share.

use crate::{errno, real};
use libc::{c_int, c_void};

/// Size in bytes of the value that a read returns.
const VALUE: usize = 4;

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
        let mut fired = 0u64;
        // SAFETY: the buffer has the size of an eventfd's value.
        let taken = unsafe { real::read(fd, (&raw mut fired).cast(), size_of_val(&fired)) };
        if taken < 0 && errno::get() == libc::EAGAIN {
            continue; // another reader has cleared the flag
        }
        if taken < 0 {
            return -1;
        }
        return store(fd, buffer);
    }
}

fn store(fd: c_int, buffer: *mut c_void) -> isize {
    let value = 1u32;
    let local = libc::iovec { iov_base: (&raw const value).cast_mut().cast(), iov_len: VALUE };
    let remote = libc::iovec { iov_base: buffer, iov_len: VALUE };
    // SAFETY: the kernel checks the caller's address, which may be invalid.
    let stored =
        unsafe { libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    if stored == VALUE as isize {
        return stored;
    }
    // Set the flag again, so that the event is not lost.
    let one = 1u64;
    // SAFETY: the buffer has the size of an eventfd's value.
    unsafe { real::write(fd, (&raw const one).cast(), size_of_val(&one)) };
    errno::fail(libc::EFAULT) as isize
}
