//! The file descriptors that the driver opens in the program's process.
//!
//! Programs close descriptors that they did not open, and choose numbers for `dup2`. The driver's descriptors therefore get high
//! numbers and are marked in the table: the program cannot close them, and child processes do not keep them.

use crate::broker::LOWEST;
use crate::{exclusive, real, table};
use libc::{c_char, c_int, c_uint, c_void};
use std::collections::HashSet;
use std::ffi::CStr;
use std::ptr::null_mut;

/// The name of the driver's memory files.
const DMA_MEMORY: &CStr = c"xdma";
/// Number of descriptors above [`LOWEST`] that must be available.
const NEEDED: libc::rlim_t = 128;

/// Executes `body`, and marks the descriptors that it leaves open.
pub fn keep<R>(body: impl FnOnce() -> R) -> R {
    let mut occupied = occupy_low_numbers();
    let before = open_descriptors();
    let result = body();
    // Mark them before the low numbers are free again: a thread of the driver may then briefly open a descriptor with a low number. Its
    // mark would stay after it is closed, and the program might get that number. One number is for the list of descriptors.
    if let Some(highest) = occupied.pop() {
        // SAFETY: the descriptor was opened below.
        unsafe { real::close(highest) };
    }
    open_descriptors().difference(&before).for_each(|fd| table::set_internal(*fd, 0));
    for fd in occupied {
        // SAFETY: the descriptor was opened below.
        unsafe { real::close(fd) };
    }
    result
}

/// Creates a memory file. The driver creates the files of its DMA memory when the program uses a channel for the first time.
#[unsafe(no_mangle)]
unsafe extern "C" fn memfd_create(name: *const c_char, flags: c_uint) -> c_int {
    // SAFETY: the caller's contract is that of the C library's function. The new descriptor belongs to nothing else.
    unsafe {
        let fd = real::memfd_create(name, flags);
        if fd < 0 || exclusive::settings().is_none() || CStr::from_ptr(name) != DMA_MEMORY {
            return fd;
        }
        // This fails if the limit of the process does not allow such a high descriptor.
        let moved = real::fcntl(fd, libc::F_DUPFD_CLOEXEC, LOWEST as usize as *mut c_void);
        if moved >= 0 {
            real::close(fd);
        }
        let fd = if moved >= 0 { moved } else { fd };
        table::set_internal(fd, 0);
        fd
    }
}

unsafe extern "C" {
    /// The start of this library, and the end of its code. The linker defines them.
    static __ehdr_start: c_char;
    static etext: c_char;
}

/// Returns whether an address is in the code of this library, which includes the driver.
pub fn is_code_of_library(address: *const c_void) -> bool {
    (&raw const __ehdr_start..&raw const etext).contains(&address.cast())
}

/// Opens descriptors until no number below [`LOWEST`] is free, and returns them. Opens none if the limit of the process does
/// not allow many more.
fn occupy_low_numbers() -> Vec<c_int> {
    let mut occupied = vec![];
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls; all pointers are valid for the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0
            || limit.rlim_cur < LOWEST as u64 + NEEDED
        {
            return occupied;
        }
        let mut fd = real::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0);
        while (0..LOWEST).contains(&fd) {
            occupied.push(fd);
            fd = real::fcntl(occupied[0], libc::F_DUPFD_CLOEXEC, null_mut());
        }
        if fd >= 0 {
            real::close(fd);
        }
    }
    occupied
}

/// Returns all open descriptors with the close-on-exec flag, which those of the driver have. Returns none if `/proc` is not
/// mounted.
fn open_descriptors() -> HashSet<c_int> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let fds: Vec<c_int> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The descriptor of the listing itself is closed now.
    fds.into_iter().filter(|fd| is_close_on_exec(*fd)).collect()
}

fn is_close_on_exec(fd: c_int) -> bool {
    // SAFETY: a plain system call.
    let flags = unsafe { real::fcntl(fd, libc::F_GETFD, null_mut::<c_void>()) };
    flags >= 0 && flags & libc::FD_CLOEXEC != 0
}
