//! Functions that do not support device files: copies within the kernel, and asynchronous I/O.

use crate::{errno, explain, ranges, real, table};
use libc::{c_int, c_long, c_uint, c_void};
use xdma_chardev::Call;

/// Offset of the file descriptor in a `struct iocb`.
const IOCB_FD: usize = 20;

/// Returns the error of a copy, if a device file is among the file descriptors.
fn rejected(call: Call, fds: [c_int; 2]) -> Option<isize> {
    let entry = fds.into_iter().find_map(table::get)?;
    Some(explain::count(call, entry.node, errno::fail(libc::EINVAL) as isize))
}

/// Defines functions that copy from one file descriptor to another.
macro_rules! copies {
    ($($name:ident, $call:ident, [$from:ident, $to:ident], $real:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> isize {
            // SAFETY: the caller's contract is that of the C library's function.
            rejected(Call::$call, [$from, $to]).unwrap_or_else(|| unsafe { real::$real($($argument),*) })
        }
    )*};
}

copies! {
    sendfile, Sendfile, [from, to], sendfile64(to: c_int, from: c_int, offset: *mut i64, count: usize);
    sendfile64, Sendfile, [from, to], sendfile64(to: c_int, from: c_int, offset: *mut i64, count: usize);
    splice, Splice, [from, to], splice(
        from: c_int, from_at: *mut i64, to: c_int, to_at: *mut i64, count: usize, flags: c_uint);
    copy_file_range, CopyFileRange, [from, to], copy_file_range(
        from: c_int, from_at: *mut i64, to: c_int, to_at: *mut i64, count: usize, flags: c_uint);
}

/// Submits requests up to the first one for a device file.
#[unsafe(no_mangle)]
unsafe extern "C" fn io_submit(context: *mut c_void, count: c_long, requests: *mut *mut c_void) -> c_int {
    // SAFETY: the caller passes `count` pointers to structures of the kernel.
    let entry = |at| unsafe { table::get((*requests.add(at)).byte_add(IOCB_FD).cast::<c_int>().read()) };
    let device = (0..count.max(0) as usize).find_map(|at| Some((at, entry(at)?)));
    match device {
        Some((0, entry)) => {
            errno::set(libc::EINVAL);
            explain::count(Call::IoSubmit, entry.node, -1);
            // This function returns the error instead of setting errno.
            -libc::EINVAL
        }
        device => {
            let count = device.map_or(count, |(at, _)| at as c_long);
            // The program may have loaded libaio in a way that hides its functions. These only make this system call, so it is
            // made here.
            // SAFETY: the caller's contract is that of the library's function.
            let submitted = unsafe { libc::syscall(libc::SYS_io_submit, context, count, requests) };
            if submitted < 0 { -errno::get() } else { submitted as c_int }
        }
    }
}

/// Defines functions of POSIX AIO. Their structure starts with the file descriptor.
macro_rules! aio {
    ($($name:ident, $call:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(request: *mut libc::aiocb) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe {
                match table::get((*request).aio_fildes) {
                    Some(entry) => {
                        explain::count(Call::$call, entry.node, errno::fail(libc::EINVAL) as isize) as c_int
                    }
                    None => real::$name(request),
                }
            }
        }
    )*};
}

/// Defines the variants of a function that submits several requests.
macro_rules! lists {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            mode: c_int,
            requests: *const *mut libc::aiocb,
            count: c_int,
            event: *mut libc::sigevent,
        ) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function. Null requests are ignored.
            unsafe {
                let entry = |at| table::get((*requests.add(at)).as_ref()?.aio_fildes);
                match (0..count.max(0) as usize).find_map(entry) {
                    Some(entry) => {
                        explain::count(Call::LioListio, entry.node, errno::fail(libc::EINVAL) as isize) as c_int
                    }
                    None => real::$name(mode, requests, count, event),
                }
            }
        }
    )*};
}

lists! { lio_listio lio_listio64 }

aio! { aio_read, AioRead; aio_read64, AioRead; aio_write, AioWrite; aio_write64, AioWrite; }

/// Records that the program changes the mappings of a range.
fn changed(address: c_long, length: c_long) {
    ranges::changed(std::ptr::without_provenance_mut(address as usize), length as usize);
}

/// Makes a system call. The C library's function also takes the arguments from the registers and the stack, whether or not the
/// caller passed them.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    match number {
        libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_pkey_mprotect | libc::SYS_madvise => changed(a, b),
        libc::SYS_mmap if d & c_long::from(libc::MAP_FIXED) != 0 => changed(a, b),
        libc::SYS_mremap => {
            changed(a, b);
            if d & c_long::from(libc::MREMAP_FIXED) != 0 {
                changed(e, c);
            }
        }
        _ => {}
    }
    if number == libc::SYS_io_uring_setup && explain::is_enabled() {
        explain::remark(&format!("{} uses io_uring: its transfers are not intercepted", explain::program()));
    }
    // SAFETY: as above.
    unsafe { real::syscall(number, a, b, c, d, e, f) }
}
