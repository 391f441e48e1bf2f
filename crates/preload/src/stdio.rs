//! C library streams (`FILE`) on device files. The C library's own streams make system calls that this library cannot
//! intercept.

use crate::open::{device, open_device};
use crate::table;
use libc::{FILE, c_char, c_int, c_void};

#[repr(C)]
struct CookieFunctions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, usize) -> isize,
    write: unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> isize,
    seek: unsafe extern "C" fn(*mut c_void, *mut i64, c_int) -> c_int,
    close: unsafe extern "C" fn(*mut c_void) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: CookieFunctions) -> *mut FILE;
    // The functions below are replacements in this library.
    fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize;
    fn write(fd: c_int, buffer: *const c_void, count: usize) -> isize;
    fn lseek64(fd: c_int, offset: i64, whence: c_int) -> i64;
    fn close(fd: c_int) -> c_int;
}

/// The cookie is the file descriptor itself.
fn descriptor(cookie: *mut c_void) -> c_int {
    cookie.addr() as c_int
}

unsafe extern "C" fn read_stream(cookie: *mut c_void, buffer: *mut c_char, count: usize) -> isize {
    // SAFETY: the C library passes a buffer of this size.
    unsafe { read(descriptor(cookie), buffer.cast(), count) }
}

unsafe extern "C" fn write_stream(cookie: *mut c_void, buffer: *const c_char, count: usize) -> isize {
    // `fopencookie` expects 0 for an error.
    // SAFETY: as above.
    unsafe { write(descriptor(cookie), buffer.cast(), count) }.max(0)
}

unsafe extern "C" fn seek_stream(cookie: *mut c_void, position: *mut i64, whence: c_int) -> c_int {
    // SAFETY: the C library passes a valid position.
    unsafe {
        let moved = lseek64(descriptor(cookie), *position, whence);
        if moved < 0 {
            return -1;
        }
        *position = moved;
    }
    0
}

unsafe extern "C" fn close_stream(cookie: *mut c_void) -> c_int {
    // SAFETY: the stream owns its file descriptor.
    unsafe { close(descriptor(cookie)) }
}

fn stream(fd: c_int, mode: *const c_char) -> *mut FILE {
    let functions =
        CookieFunctions { read: read_stream, write: write_stream, seek: seek_stream, close: close_stream };
    // SAFETY: the functions match the C library's declarations, and the program passes a valid mode.
    unsafe { fopencookie(fd as usize as *mut c_void, mode, functions) }
}

/// Returns the flags of `open` for a mode of `fopen`.
unsafe fn flags(mode: *const c_char) -> c_int {
    // SAFETY: the mode is a C string.
    let mode = unsafe { std::ffi::CStr::from_ptr(mode) }.to_bytes();
    match (mode.first(), mode.contains(&b'+')) {
        (_, true) => libc::O_RDWR,
        (Some(b'r'), false) => libc::O_RDONLY,
        _ => libc::O_WRONLY,
    }
}

/// Defines the variants of `fopen`.
macro_rules! fopen {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut FILE {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe {
                let Some((card, node)) = device(path) else { return crate::real::fopen(path, mode) };
                match open_device(card, node, flags(mode)) {
                    -1 => std::ptr::null_mut(),
                    fd => stream(fd, mode),
                }
            }
        }
    )*};
}

fopen! { fopen fopen64 }

#[unsafe(no_mangle)]
unsafe extern "C" fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    match table::get(fd) {
        Some(_) => stream(fd, mode),
        // SAFETY: as above.
        None => unsafe { crate::real::fdopen(fd, mode) },
    }
}
