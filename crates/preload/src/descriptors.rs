//! Closing and duplicating file descriptors, their flags, and `epoll`.

use crate::startup::owns_table;
use crate::{broker, driver_files, errno, explain, real, stdio, table};
use libc::{c_int, c_uint, c_void};
use xdma_chardev::{Call, Node};

// SAFETY, for all functions below: the contract for the caller is that of the C library function of the same name.

/// Passes the address of the caller to `close_for`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    std::arch::naked_asm!("mov rsi, [rsp]", "jmp {}", sym close_for)
}

unsafe extern "C" fn close_for(fd: c_int, caller: *const c_void) -> c_int {
    if table::is_internal(fd) {
        // A program that closes all file descriptors must not close this library's.
        if !driver_files::is_code_of_library(caller) {
            return 0;
        }
        table::clear(fd);
    }
    if table::get(fd).is_some() && owns_table() {
        table::clear(fd);
    }
    // SAFETY: see above.
    unsafe { real::close(fd) }
}

/// Closes the file descriptors of a range, except those of this library.
#[unsafe(no_mangle)]
unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if first > last {
        return errno::fail(libc::EINVAL);
    }
    let closes = flags as c_uint & libc::CLOSE_RANGE_CLOEXEC == 0;
    let mut start = first;
    if closes {
        for internal in table::internal(first..=last) {
            if internal > start {
                // SAFETY: see above.
                unsafe { close_part(start, internal - 1, flags) };
            }
            start = internal + 1;
        }
    }
    if start > last {
        return 0;
    }
    // SAFETY: see above.
    unsafe { close_part(start, last, flags) }
}

unsafe fn close_part(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags as c_uint & libc::CLOSE_RANGE_CLOEXEC == 0 && owns_table() {
        (first..=last.min(1 << 16)).for_each(|fd| table::clear(fd as c_int));
    }
    // SAFETY: see above.
    unsafe { real::close_range(first, last, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn closefrom(first: c_int) {
    // SAFETY: see above.
    unsafe { close_range(first.max(0) as c_uint, c_uint::MAX, 0) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: see above.
    duplicated(fd, unsafe { real::dup(fd) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup2(from: c_int, to: c_int) -> c_int {
    // SAFETY: see above.
    duplicated(from, unsafe { real::dup2(from, to) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    // SAFETY: see above.
    duplicated(from, unsafe { real::dup3(from, to, flags) })
}

/// Records that `to` is a duplicate of `from`.
fn duplicated(from: c_int, to: c_int) -> c_int {
    let tracked = |fd| table::get(fd).is_some() || table::is_internal(fd);
    if to >= 0 && !table::holds(to) && tracked(from) {
        // SAFETY: the duplicate was just created.
        unsafe { real::close(to) };
        return errno::fail(libc::EMFILE);
    }
    if to >= 0 && to != from && (tracked(from) || tracked(to)) && owns_table() {
        if table::is_internal(to) {
            // The program has replaced a connection's file descriptor.
            broker::invalidate();
        }
        table::copy(from, to);
        stdio::replace_standard(to);
    }
    to
}

/// Defines the variants of `fcntl`.
macro_rules! fcntl {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(fd: c_int, command: c_int, argument: *mut c_void) -> c_int {
            // SAFETY: see above.
            let result = unsafe { real::fcntl(fd, command, argument) };
            match (command, table::get(fd)) {
                (libc::F_DUPFD | libc::F_DUPFD_CLOEXEC, _) => duplicated(fd, result),
                // The kernel would report the socket's access mode. Flags that matter only to `open`, such as `O_TRUNC`, are
                // not reported.
                (libc::F_GETFL, Some(entry)) if result >= 0 => {
                    let mode = entry.flags as c_int & libc::O_ACCMODE;
                    result & !libc::O_ACCMODE | mode | 0o100_000
                }
                _ => result,
            }
        }
    )*};
}

fcntl! { fcntl fcntl64 }

/// Rejects device files other than event files. Device files are always ready, and `epoll` does not support files that are.
#[unsafe(no_mangle)]
unsafe extern "C" fn epoll_ctl(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut libc::epoll_event,
) -> c_int {
    match table::get(fd).map(|entry| entry.node) {
        None | Some(Node::Events(_)) => {
            // SAFETY: see above.
            unsafe { real::epoll_ctl(epoll, operation, fd, event) }
        }
        Some(node) => explain::count(Call::EpollCtl, node, errno::fail(libc::EPERM) as isize) as c_int,
    }
}
