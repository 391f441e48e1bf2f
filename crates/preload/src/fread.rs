//! `fread` on device files.
//!
//! For a stream of `fopencookie`, the C library fills the stream's buffer again and again. Since reads do not move the position
//! of a device file, each part would contain the same data. The functions below read as the C library does for a plain file:
//! whole blocks in one call, directly into the caller's buffer.

use crate::stdio::{Stream, find};
use crate::{io, real};
use libc::{FILE, c_char, c_int, c_void};

/// The start of the C library's `struct _IO_FILE` (`bits/types/struct_FILE.h`), which is the same in all versions.
#[repr(C)]
struct Fields {
    flags: c_int,
    read_ptr: *mut c_char,
    read_end: *mut c_char,
    /// `_IO_read_base`, and the three pointers of the write area.
    others: [*mut c_char; 4],
    buf_base: *mut c_char,
    buf_end: *mut c_char,
}

/// `_IO_EOF_SEEN`.
const END: c_int = 0x10;
/// `_IO_ERR_SEEN`.
const ERROR: c_int = 0x20;
/// If a stream's buffer is smaller than this, the C library does not divide reads into blocks.
const SMALLEST_BLOCK: usize = 128;

/// Reads up to `count` bytes. Returns the number of bytes.
///
/// # Safety
///
/// As for `fread_unlocked`. `device` must be the device file of the stream.
unsafe fn read_bytes(device: &Stream, to: *mut c_void, count: usize, stream: *mut FILE) -> usize {
    let fields = stream.cast::<Fields>();
    let mut done = 0;
    while done < count {
        let wanted = count - done;
        // SAFETY: the caller's contract, and the structure above.
        let (buffered, size) = unsafe {
            let Fields { read_ptr, read_end, buf_base, buf_end, .. } = fields.read();
            (read_end.addr() - read_ptr.addr(), buf_end.addr() - buf_base.addr())
        };
        // SAFETY: the buffer has `wanted` bytes more.
        let to = unsafe { to.byte_add(done) };
        let from_buffer = if buffered > 0 { buffered.min(wanted) } else { wanted };
        if buffered > 0 || wanted < size {
            // SAFETY: as above.
            let moved = unsafe { real::fread_unlocked(to, 1, from_buffer, stream) };
            done += moved;
            if moved < from_buffer {
                return done;
            }
            continue;
        }
        let rest = if size >= SMALLEST_BLOCK { wanted % size } else { 0 };
        // SAFETY: as above.
        let moved = unsafe { device.read(to, wanted - rest) };
        if moved <= 0 {
            // SAFETY: as above. The caller holds the stream's lock or needs none.
            unsafe { (*fields).flags |= if moved == 0 { END } else { ERROR } };
            return done;
        }
        done += moved as usize;
    }
    done
}

unsafe fn read_items(to: *mut c_void, size: usize, count: usize, stream: *mut FILE) -> usize {
    let Some(device) = find(stream) else {
        // SAFETY: the caller's contract is that of the C library's function.
        return unsafe { real::fread_unlocked(to, size, count, stream) };
    };
    match size.checked_mul(count) {
        None | Some(0) => 0,
        // SAFETY: as above.
        Some(bytes) => unsafe { read_bytes(&device, to, bytes, stream) / size },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fread_unlocked(to: *mut c_void, size: usize, count: usize, stream: *mut FILE) -> usize {
    // SAFETY: as above.
    unsafe { read_items(to, size, count, stream) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fread(to: *mut c_void, size: usize, count: usize, stream: *mut FILE) -> usize {
    // SAFETY: as above.
    unsafe {
        if find(stream).is_none() {
            return real::fread(to, size, count, stream);
        }
        flockfile(stream);
        let read = read_items(to, size, count, stream);
        funlockfile(stream);
        read
    }
}

unsafe extern "C" {
    fn flockfile(stream: *mut FILE);
    fn funlockfile(stream: *mut FILE);
}

/// Defines the variants for fortified programs.
macro_rules! checked {
    ($($name:ident, $plain:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(to: *mut c_void, space: usize, size: usize, count: usize, stream: *mut FILE) -> usize {
            io::check_size(size.saturating_mul(count), space);
            // SAFETY: as above.
            unsafe { $plain(to, size, count, stream) }
        }
    )*};
}

checked! { __fread_chk, fread; __fread_unlocked_chk, fread_unlocked; }
