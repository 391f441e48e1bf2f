//! Access to this thread's `errno`.

use libc::{c_int, ssize_t};

pub fn get() -> c_int {
    // SAFETY: the C library returns the address of this thread's errno.
    unsafe { *libc::__errno_location() }
}

pub fn set(errno: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno }
}

/// Sets errno and returns -1.
pub fn fail(errno: c_int) -> c_int {
    set(errno);
    -1
}

/// Returns the result of a call as the C library does: for a negative errno, sets errno and returns -1.
pub fn result(result: i64) -> ssize_t {
    if result >= 0 {
        return result as ssize_t;
    }
    set(-result as c_int);
    -1
}
