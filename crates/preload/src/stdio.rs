//! C library streams (`FILE`) on device files. The C library's own streams make system calls that this library cannot
//! intercept.

use crate::open::{device, device_to_open, open_device};
use crate::{cancel, errno, explain, table};
use libc::{FILE, c_char, c_int, c_void};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[repr(C)]
struct CookieFunctions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, usize) -> isize,
    write: unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> isize,
    seek: unsafe extern "C" fn(*mut c_void, *mut i64, c_int) -> c_int,
    close: unsafe extern "C" fn(*mut c_void) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: CookieFunctions) -> *mut FILE;
    fn ftrylockfile(stream: *mut FILE) -> c_int;
    fn funlockfile(stream: *mut FILE);
    // The functions below are replacements in this library.
    fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize;
    fn write(fd: c_int, buffer: *const c_void, count: usize) -> isize;
    fn lseek64(fd: c_int, offset: i64, whence: c_int) -> i64;
    fn close(fd: c_int) -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    static mut stdin: *mut FILE;
    static mut stdout: *mut FILE;
    static mut stderr: *mut FILE;
}

/// Size of a stream's buffer: the block size of the device files.
const BUFFER: usize = 4096;

/// A stream on a device file.
pub struct Stream {
    fd: c_int,
    /// The position after the data that was transferred, or negative if it is unknown. As in the C library's own streams, it
    /// differs from the position of the device file, which transfers do not move.
    offset: AtomicI64,
    /// The stream uses it until it is closed, unless the program sets another.
    buffer: Box<[UnsafeCell<c_char>]>,
}

// SAFETY: only the C library accesses the buffer, under the lock of its stream.
unsafe impl Sync for Stream {}
// SAFETY: as above.
unsafe impl Send for Stream {}

/// The streams on device files, by address.
static STREAMS: Mutex<Vec<(usize, Arc<Stream>)>> = Mutex::new(vec![]);
/// The number of streams above.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// The standard streams as the C library created them.
static USUAL: [AtomicPtr<FILE>; 3] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 3];

pub type Guard = MutexGuard<'static, Vec<(usize, Arc<Stream>)>>;

pub fn lock() -> Guard {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the device file of a stream.
pub fn find(stream: *mut FILE) -> Option<Arc<Stream>> {
    if OPEN.load(Ordering::Relaxed) == 0 {
        return None;
    }
    lock().iter().rev().find(|(address, _)| *address == stream.addr()).map(|(_, stream)| stream.clone())
}

impl Stream {
    /// Reads from the device file.
    ///
    /// # Safety
    ///
    /// As for `read`.
    pub unsafe fn read(&self, buffer: *mut c_void, count: usize) -> isize {
        // If the thread ended here, the stream would stay locked, so cancellation is disabled.
        // SAFETY: the caller's contract.
        self.advance(cancel::disabled(|| unsafe { read(self.fd, buffer, count) }))
    }

    fn advance(&self, moved: isize) -> isize {
        let offset = self.offset.load(Ordering::Relaxed);
        if offset >= 0 && moved > 0 {
            self.offset.store(offset + moved as i64, Ordering::Relaxed);
        }
        moved
    }

    /// Moves the position. `SEEK_CUR` is relative to the known offset. A move by 0 only returns that offset.
    fn seek(&self, by: i64, whence: c_int) -> i64 {
        let known = self.offset.load(Ordering::Relaxed);
        let (to, whence) = match whence {
            libc::SEEK_CUR if known >= 0 && by == 0 => return known,
            libc::SEEK_CUR if known >= 0 => (known.saturating_add(by), libc::SEEK_SET),
            _ => (by, whence),
        };
        // SAFETY: a call without memory arguments.
        let moved = unsafe { lseek64(self.fd, to, whence) };
        if moved >= 0 {
            self.offset.store(moved, Ordering::Relaxed);
        }
        moved
    }
}

/// Returns the stream of a cookie.
///
/// # Safety
///
/// The stream must be open during the lifetime that the caller chooses.
unsafe fn stream_of<'a>(cookie: *mut c_void) -> &'a Stream {
    // SAFETY: the cookie of an open stream is in `STREAMS`.
    unsafe { &*cookie.cast::<Stream>() }
}

unsafe extern "C" fn read_stream(cookie: *mut c_void, buffer: *mut c_char, count: usize) -> isize {
    // SAFETY: the C library passes a buffer of this size.
    unsafe { stream_of(cookie).read(buffer.cast(), count) }
}

unsafe extern "C" fn write_stream(cookie: *mut c_void, buffer: *const c_char, count: usize) -> isize {
    // `fopencookie` expects 0 for an error.
    // SAFETY: as above.
    unsafe {
        let stream = stream_of(cookie);
        stream.advance(cancel::disabled(|| write(stream.fd, buffer.cast(), count))).max(0)
    }
}

unsafe extern "C" fn seek_stream(cookie: *mut c_void, position: *mut i64, whence: c_int) -> c_int {
    // SAFETY: the C library passes a valid position.
    unsafe {
        let moved = stream_of(cookie).seek(*position, whence);
        if moved < 0 {
            return -1;
        }
        *position = moved;
    }
    0
}

unsafe extern "C" fn close_stream(cookie: *mut c_void) -> c_int {
    // SAFETY: the stream owns its file descriptor. The C library no longer uses the buffer.
    unsafe {
        let fd = stream_of(cookie).fd;
        let mut streams = lock();
        streams.retain(|(_, stream)| Arc::as_ptr(stream).addr() != cookie.addr());
        OPEN.store(streams.len(), Ordering::Relaxed);
        drop(streams);
        close(fd)
    }
}

/// Flushes all streams that no thread is using.
pub fn flush_all() {
    // Held until the end, so that no stream is freed.
    for (address, _) in lock().iter() {
        let stream = std::ptr::with_exposed_provenance_mut(*address);
        // SAFETY: the stream is open.
        unsafe {
            if ftrylockfile(stream) == 0 {
                libc::fflush(stream);
                funlockfile(stream);
            }
        }
    }
}

/// Creates a stream. Its buffer has the size that the C library takes from a device file, so that calls have the usual sizes.
fn stream(fd: c_int, mode: *const c_char) -> *mut FILE {
    let functions =
        CookieFunctions { read: read_stream, write: write_stream, seek: seek_stream, close: close_stream };
    let buffer = std::iter::repeat_with(|| UnsafeCell::new(0)).take(BUFFER).collect();
    let new = Arc::new(Stream { fd, offset: AtomicI64::new(-1), buffer });
    // SAFETY: the functions match the C library's declarations, and the program passes a valid mode. The buffer lives until the
    // stream is closed.
    unsafe {
        let stream = fopencookie(Arc::as_ptr(&new).cast_mut().cast(), mode, functions);
        if !stream.is_null() {
            libc::setvbuf(stream, new.buffer.as_ptr().cast_mut().cast(), libc::_IOFBF, BUFFER);
            let mut streams = lock();
            streams.push((stream.expose_provenance(), new));
            OPEN.store(streams.len(), Ordering::Relaxed);
        }
        stream
    }
}

/// Replaces the standard stream of a file descriptor if it is a device file. Restores the original stream if it is not.
pub fn replace_standard(fd: c_int) {
    let standard = match fd {
        0 => &raw mut stdin,
        1 => &raw mut stdout,
        2 => &raw mut stderr,
        _ => return,
    };
    let mode = if fd == 0 { c"r" } else { c"w" };
    let usual = &USUAL[fd as usize];
    // SAFETY: the C library permits programs to assign its standard streams.
    unsafe {
        if usual.load(Ordering::Relaxed).is_null() {
            usual.store(*standard, Ordering::Relaxed);
        }
        *standard = match table::get(fd) {
            Some(_) => stream(fd, mode.as_ptr()),
            None => usual.load(Ordering::Relaxed),
        };
    }
}

/// Returns the flags of `open` for a mode of `fopen`.
unsafe fn flags(mode: *const c_char) -> c_int {
    // SAFETY: the mode is a C string.
    let mode = unsafe { std::ffi::CStr::from_ptr(mode) }.to_bytes();
    let has = |letter| mode.contains(&letter);
    let access = match (mode.first(), has(b'+')) {
        (_, true) => libc::O_RDWR,
        (Some(b'r'), false) => libc::O_RDONLY,
        _ => libc::O_WRONLY,
    };
    let truncate = if mode.first() == Some(&b'w') { libc::O_TRUNC } else { 0 };
    access | truncate | if has(b'e') { libc::O_CLOEXEC } else { 0 }
}

/// Defines the variants of `fileno`. The C library's own returns an error for such a stream.
macro_rules! fileno {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(stream: *mut FILE) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function.
            find(stream).map_or_else(|| unsafe { crate::real::$name(stream) }, |open| open.fd)
        }
    )*};
}

fileno! { fileno fileno_unlocked }

/// Defines the variants of `fopen`.
macro_rules! fopen {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut FILE {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe {
                let Some((card, node)) = device_to_open(libc::AT_FDCWD, path) else {
                    return crate::real::fopen(path, mode);
                };
                match open_device(card, node, flags(mode)) {
                    -1 => std::ptr::null_mut(),
                    fd => stream(fd, mode),
                }
            }
        }
    )*};
}

fopen! { fopen fopen64 }

/// Reopens a standard stream as a device file. This stores another stream in the C library's variable. Streams other than the
/// standard ones are rejected, because the program may have further pointers to them.
unsafe fn reopen(path: *const c_char, mode: *const c_char, old: *mut FILE) -> *mut FILE {
    // SAFETY: the caller's contract is that of the C library's function.
    unsafe {
        let Some((card, node)) = device(libc::AT_FDCWD, path) else {
            return crate::real::freopen(path, mode, old);
        };
        let standard = || [(0, &raw mut stdin), (1, &raw mut stdout), (2, &raw mut stderr)];
        let Some((fd, variable)) = standard().into_iter().find(|(_, variable)| **variable == old) else {
            explain::remark(&format!(
                "{}: freopen of {node} supports only standard streams",
                explain::program()
            ));
            errno::set(libc::EINVAL);
            return std::ptr::null_mut();
        };
        libc::fflush(old);
        let opened = open_device(card, node, flags(mode));
        if opened < 0 {
            return std::ptr::null_mut();
        }
        // This replaces the variable's stream.
        let moved = dup2(opened, fd);
        close(opened);
        if moved < 0 { std::ptr::null_mut() } else { *variable }
    }
}

/// Defines the variants of `freopen`.
macro_rules! freopen {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char, stream: *mut FILE) -> *mut FILE {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe { reopen(path, mode, stream) }
        }
    )*};
}

freopen! { freopen freopen64 }

#[unsafe(no_mangle)]
unsafe extern "C" fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    match table::get(fd) {
        Some(_) => stream(fd, mode),
        // SAFETY: as above.
        None => unsafe { crate::real::fdopen(fd, mode) },
    }
}
