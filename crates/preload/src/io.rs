//! Reads, writes, seeks, ioctls and mappings.

use crate::table::{self, Entry};
use crate::{cancel, errno, events, explain, ranges, real, service};
use libc::{c_int, c_void, iovec};
use xdma_chardev::{Call, Node, Operation, Request, USES_WINDOW, WINDOW};

/// Executes `read` or `pread` on a device file.
#[inline(always)]
fn read_device(entry: Entry, fd: c_int, buffer: *mut c_void, count: usize, offset: Option<i64>) -> isize {
    if let Node::Events(_) = entry.node {
        return match entry.flags & libc::O_ACCMODE as u32 {
            1 => errno::fail(libc::EBADF) as isize,
            _ => events::read(fd, buffer, count, offset.unwrap_or(0)),
        };
    }
    transfer(entry, buffer, count, offset, [Operation::Read, Operation::ReadAt])
}

/// Executes `write` or `pwrite` on a device file.
#[inline(always)]
fn write_device(entry: Entry, buffer: *const c_void, count: usize, offset: Option<i64>) -> isize {
    if let Node::Events(_) = entry.node {
        let is_readable_only = entry.flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32;
        return errno::fail(if is_readable_only { libc::EBADF } else { libc::EINVAL }) as isize;
    }
    transfer(entry, buffer.cast_mut(), count, offset, [Operation::Write, Operation::WriteAt])
}

#[inline(always)]
fn transfer(
    entry: Entry,
    buffer: *mut c_void,
    count: usize,
    offset: Option<i64>,
    [at_position, at_offset]: [Operation; 2],
) -> isize {
    let operation = if offset.is_some() { at_offset } else { at_position };
    let length = count as u64;
    let fits_window = entry.node.is_dma() && (1..=WINDOW).contains(&length);
    let request = Request {
        flags: if fits_window { USES_WINDOW } else { 0 },
        position: offset.unwrap_or(0) as u64,
        address: buffer.addr() as u64,
        length,
        ..Request::new(operation, entry.file)
    };
    errno::result(service::call(request))
}

/// Returns the result of a call. If the thread was cancelled, it ends here.
fn ended(result: isize) -> isize {
    cancel::test();
    result
}

/// Executes a vectored call part by part, at consecutive positions. Stops after the first part that is incomplete. Skips empty
/// parts, which C++ streams pass and the channels reject.
///
/// # Safety
///
/// `parts` must point to `count` parts.
unsafe fn each_part(
    parts: *const iovec,
    count: c_int,
    offset: Option<i64>,
    mut part: impl FnMut(&iovec, Option<i64>) -> isize,
) -> isize {
    if !(0..=libc::UIO_MAXIOV).contains(&count) {
        return errno::fail(libc::EINVAL) as isize;
    }
    let mut done = 0;
    for at in 0..count as usize {
        // SAFETY: the caller's contract.
        let each = unsafe { &*parts.add(at) };
        if each.iov_len == 0 && count > 1 {
            continue;
        }
        let result = part(each, offset.map(|offset| offset.wrapping_add(done as i64)));
        if result < 0 {
            return if done > 0 { done } else { result };
        }
        done += result;
        if result as usize != each.iov_len {
            break;
        }
    }
    done
}

/// Returns the offset at which a vectored call starts. On a channel, whose calls do not move the file's position, the parts
/// need explicit offsets.
fn start(entry: Entry, offset: Option<i64>) -> Result<Option<i64>, c_int> {
    if offset.is_some() || !entry.node.is_dma() {
        return Ok(offset);
    }
    match seek(entry, 0, libc::SEEK_CUR) {
        error if error < 0 => Err(-error as c_int),
        position => Ok(Some(position)),
    }
}

fn seek(entry: Entry, offset: i64, whence: c_int) -> i64 {
    if let Node::Events(_) = entry.node {
        return -i64::from(libc::ESPIPE);
    }
    let request = Request {
        position: offset as u64,
        value: whence as u64,
        ..Request::new(Operation::Seek, entry.file)
    };
    service::call(request)
}

// SAFETY, for all functions below: the contract for the caller is that of the C library function of the same name.

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize {
    match table::get(fd) {
        Some(entry) => {
            ended(explain::count(Call::Read, entry.node, read_device(entry, fd, buffer, count, None)))
        }
        // SAFETY: see above.
        None => unsafe { real::read(fd, buffer, count) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn write(fd: c_int, buffer: *const c_void, count: usize) -> isize {
    match table::get(fd) {
        Some(entry) => {
            ended(explain::count(Call::Write, entry.node, write_device(entry, buffer, count, None)))
        }
        // SAFETY: see above.
        None => unsafe { real::write(fd, buffer, count) },
    }
}

/// Defines the variants of a function that differ only in name.
macro_rules! same {
    ($($name:ident)*, $arguments:tt $result:ty, $body:expr) => {$(
        same! { @one $name $arguments $result, $body }
    )*};
    (@one $name:ident ($($argument:ident: $type:ty),*) $result:ty, $body:expr) => {
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($argument: $type),*) -> $result {
            let body: unsafe fn($($type),*) -> $result = $body;
            // SAFETY: see above.
            unsafe { body($($argument),*) }
        }
    };
}

unsafe fn pread_any(fd: c_int, buffer: *mut c_void, count: usize, offset: i64) -> isize {
    match table::get(fd) {
        Some(entry) => {
            let result = read_device(entry, fd, buffer, count, Some(offset));
            ended(explain::count(Call::Pread, entry.node, result))
        }
        // SAFETY: see above.
        None => unsafe { real::pread64(fd, buffer, count, offset) },
    }
}

unsafe fn pwrite_any(fd: c_int, buffer: *const c_void, count: usize, offset: i64) -> isize {
    match table::get(fd) {
        Some(entry) => {
            let result = write_device(entry, buffer, count, Some(offset));
            ended(explain::count(Call::Pwrite, entry.node, result))
        }
        // SAFETY: see above.
        None => unsafe { real::pwrite64(fd, buffer, count, offset) },
    }
}

unsafe fn read_parts(fd: c_int, parts: *const iovec, count: c_int, offset: Option<i64>) -> Option<isize> {
    let entry = table::get(fd)?;
    let start = match start(entry, offset) {
        Ok(start) => start,
        Err(error) => return Some(errno::fail(error) as isize),
    };
    // SAFETY: see above.
    let done = unsafe {
        each_part(parts, count, start, |part, at| read_device(entry, fd, part.iov_base, part.iov_len, at))
    };
    let call = if offset.is_some() { Call::Preadv } else { Call::Readv };
    Some(ended(explain::count(call, entry.node, done)))
}

unsafe fn write_parts(fd: c_int, parts: *const iovec, count: c_int, offset: Option<i64>) -> Option<isize> {
    let entry = table::get(fd)?;
    let start = match start(entry, offset) {
        Ok(start) => start,
        Err(error) => return Some(errno::fail(error) as isize),
    };
    // SAFETY: see above.
    let done = unsafe {
        each_part(parts, count, start, |part, at| write_device(entry, part.iov_base, part.iov_len, at))
    };
    let call = if offset.is_some() { Call::Pwritev } else { Call::Writev };
    Some(ended(explain::count(call, entry.node, done)))
}

same! { pread pread64, (fd: c_int, buffer: *mut c_void, count: usize, offset: i64) isize, pread_any }
same! { pwrite pwrite64, (fd: c_int, buffer: *const c_void, count: usize, offset: i64) isize, pwrite_any }

unsafe extern "C" {
    /// Terminates a program that would overflow a buffer.
    fn __chk_fail() -> !;
}

/// Checks the size of a buffer, as the C library does for fortified programs.
pub fn check_size(count: usize, size: usize) {
    if count > size {
        // SAFETY: the function has no preconditions.
        unsafe { __chk_fail() }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __read_chk(fd: c_int, buffer: *mut c_void, count: usize, size: usize) -> isize {
    check_size(count, size);
    // SAFETY: see above.
    unsafe { read(fd, buffer, count) }
}

same! {
    __pread_chk __pread64_chk,
    (fd: c_int, buffer: *mut c_void, count: usize, offset: i64, size: usize) isize,
    |fd, buffer, count, offset, size| {
        check_size(count, size);
        // SAFETY: see above.
        unsafe { pread_any(fd, buffer, count, offset) }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn readv(fd: c_int, parts: *const iovec, count: c_int) -> isize {
    // SAFETY: see above.
    unsafe { read_parts(fd, parts, count, None).unwrap_or_else(|| real::readv(fd, parts, count)) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> isize {
    // SAFETY: see above.
    unsafe { write_parts(fd, parts, count, None).unwrap_or_else(|| real::writev(fd, parts, count)) }
}

same! {
    preadv preadv64,
    (fd: c_int, parts: *const iovec, count: c_int, offset: i64) isize,
    // SAFETY: see above.
    |fd, parts, count, offset| unsafe {
        read_parts(fd, parts, count, Some(offset)).unwrap_or_else(|| real::preadv64(fd, parts, count, offset))
    }
}

same! {
    pwritev pwritev64,
    (fd: c_int, parts: *const iovec, count: c_int, offset: i64) isize,
    // SAFETY: see above.
    |fd, parts, count, offset| unsafe {
        write_parts(fd, parts, count, Some(offset)).unwrap_or_else(|| real::pwritev64(fd, parts, count, offset))
    }
}

/// Returns the offset of `preadv2` and `pwritev2`, or `None` for -1, which selects the file's position.
fn given(offset: i64) -> Option<i64> {
    (offset != -1).then_some(offset)
}

same! {
    preadv2 preadv64v2,
    (fd: c_int, parts: *const iovec, count: c_int, offset: i64, flags: c_int) isize,
    // SAFETY: see above.
    |fd, parts, count, offset, flags| unsafe {
        let done = read_parts(fd, parts, count, given(offset));
        done.unwrap_or_else(|| real::preadv64v2(fd, parts, count, offset, flags))
    }
}

same! {
    pwritev2 pwritev64v2,
    (fd: c_int, parts: *const iovec, count: c_int, offset: i64, flags: c_int) isize,
    // SAFETY: see above.
    |fd, parts, count, offset, flags| unsafe {
        let done = write_parts(fd, parts, count, given(offset));
        done.unwrap_or_else(|| real::pwritev64v2(fd, parts, count, offset, flags))
    }
}

same! {
    lseek lseek64,
    (fd: c_int, offset: i64, whence: c_int) i64,
    |fd, offset, whence| match table::get(fd) {
        Some(entry) => explain::count(Call::Lseek, entry.node, errno::result(seek(entry, offset, whence))) as i64,
        // SAFETY: see above.
        None => unsafe { real::lseek64(fd, offset, whence) },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, command: libc::c_ulong, argument: *mut c_void) -> c_int {
    match (table::get(fd), command) {
        // The kernel handles these for every file.
        (Some(_), libc::FIONBIO | libc::FIOCLEX | libc::FIONCLEX) | (None, _) => {
            // SAFETY: see above.
            unsafe { real::ioctl(fd, command, argument) }
        }
        (Some(Entry { node: node @ Node::Events(_), .. }), _) => {
            explain::count_ioctl(node, command, errno::fail(libc::ENOTTY))
        }
        (Some(entry), _) => {
            let value = command & 0xffff_ffff;
            let address = argument.addr() as u64;
            let request = Request { value, address, ..Request::new(Operation::Ioctl, entry.file) };
            explain::count_ioctl(entry.node, command, errno::result(service::call(request)) as c_int)
        }
    }
}

same! {
    mmap mmap64,
    (address: *mut c_void, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) *mut c_void,
    |address, length, protection, flags, fd, offset| {
        if flags & libc::MAP_FIXED != 0 {
            ranges::changed(address, length);
        }
        match table::get(fd) {
            Some(entry) if flags & libc::MAP_ANONYMOUS == 0 => {
                let mapped = map_device(entry, address, length, protection, flags, offset);
                let bytes = if mapped == libc::MAP_FAILED { -1 } else { length as isize };
                explain::count(Call::Mmap, entry.node, bytes);
                mapped
            }
            // SAFETY: see above.
            _ => unsafe { real::mmap64(address, length, protection, flags, fd, offset) },
        }
    }
}

/// Maps registers, if the card's bus supports it.
fn map_device(
    entry: Entry,
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    offset: i64,
) -> *mut c_void {
    if !entry.node.is_bar() {
        errno::set(libc::ENODEV);
        return libc::MAP_FAILED;
    }
    let request = Request {
        flags: flags as u32,
        position: offset as u64,
        length: length as u64,
        value: protection as u64,
        ..Request::new(Operation::Map, entry.file)
    };
    match service::call_for_descriptor(&request) {
        (at, Some(fd)) if at >= 0 => {
            // SAFETY: the program fulfills the contract of `mmap`, and the file descriptor was just received. The mapping
            // remains after the file descriptor is closed.
            unsafe {
                let mapped = real::mmap64(address, length, protection, flags, fd, at);
                let saved = errno::get();
                real::close(fd);
                errno::set(saved);
                mapped
            }
        }
        (error, _) => {
            if error == -i64::from(libc::ENODEV) {
                print_once(c"xdma: cannot map registers of a card over a socket; use pread and pwrite\n");
            }
            // If no file descriptor is free, the file in the reply is lost.
            errno::set(if error < 0 { -error as c_int } else { libc::EMFILE });
            libc::MAP_FAILED
        }
    }
}

/// Writes a line to standard error, once per process.
fn print_once(text: &std::ffi::CStr) {
    static PRINTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    if !PRINTED.swap(true, std::sync::atomic::Ordering::Relaxed) {
        // SAFETY: the text is valid for the call. A failed write is ignored.
        unsafe { real::write(2, text.as_ptr().cast(), text.to_bytes().len()) };
    }
}
