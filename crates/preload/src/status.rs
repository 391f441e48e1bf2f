//! `stat`, `access` and their variants.

use crate::open::device;
use crate::{errno, real, service, table};
use libc::{c_char, c_int, c_uint, c_void};
use xdma_chardev::{Node, Operation, Request};

/// The major number that device files report. It is in the range for local use, because no kernel module has registered one.
const MAJOR: c_uint = 240;
const MODE: libc::mode_t = libc::S_IFCHR | 0o660;
/// The mode of a BAR's file in sysfs.
const REGULAR: libc::mode_t = libc::S_IFREG | 0o600;
const BLOCK: i64 = 4096;

/// Checks that the broker's card has a device file.
pub fn exists(card: u32, node: Node) -> Result<(), c_int> {
    let request = Request { value: node.minor().into(), ..Request::new(Operation::Check, 0) };
    match service::call(request) {
        _ if card != 0 => Err(libc::ENOENT),
        0.. => Ok(()),
        error => Err(-error as c_int),
    }
}

/// Returns the size of a file in sysfs, or `None` for a device file.
fn file_size(node: Node) -> Option<u64> {
    let Node::Resource(_) = node else { return None };
    let request = Request { value: node.minor().into(), ..Request::new(Operation::Check, 0) };
    Some(u64::try_from(service::call(request)).unwrap_or(0))
}

fn fill(node: Node, status: *mut libc::stat) -> c_int {
    // SAFETY: the program passed a structure to fill in.
    unsafe {
        status.write_bytes(0, 1);
        let status = &mut *status;
        status.st_mode = MODE;
        status.st_nlink = 1;
        (status.st_uid, status.st_gid) = (libc::getuid(), libc::getgid());
        status.st_rdev = libc::makedev(MAJOR, node.minor());
        status.st_blksize = BLOCK;
        status.st_ino = u64::from(node.minor()) + 1;
        if let Some(size) = file_size(node) {
            (status.st_mode, status.st_size, status.st_rdev) = (REGULAR, size as i64, 0);
        }
    }
    0
}

fn fill_extended(node: Node, status: *mut libc::statx) -> c_int {
    // SAFETY: as above.
    unsafe {
        status.write_bytes(0, 1);
        let status = &mut *status;
        status.stx_mask = libc::STATX_BASIC_STATS;
        status.stx_mode = MODE as u16;
        status.stx_nlink = 1;
        (status.stx_uid, status.stx_gid) = (libc::getuid(), libc::getgid());
        (status.stx_rdev_major, status.stx_rdev_minor) = (MAJOR, node.minor());
        status.stx_blksize = BLOCK as u32;
        status.stx_ino = u64::from(node.minor()) + 1;
        if let Some(size) = file_size(node) {
            (status.stx_mode, status.stx_size) = (REGULAR as u16, size);
            (status.stx_rdev_major, status.stx_rdev_minor) = (0, 0);
        }
    }
    0
}

/// Returns the device file of a path, or of the file descriptor `dir` if the path is empty.
unsafe fn find(dir: c_int, path: *const c_char) -> Option<Result<Node, c_int>> {
    // SAFETY: the caller's contract is that of the C library's function.
    if let Some((card, node)) = unsafe { device(dir, path) } {
        return Some(exists(card, node).map(|()| node));
    }
    // SAFETY: a path that is not null is a C string.
    let is_empty = !path.is_null() && unsafe { *path } == 0;
    is_empty.then(|| table::get(dir)).flatten().map(|entry| Ok(entry.node))
}

/// Defines variants of a call on a path or a file descriptor.
macro_rules! status {
    ($($name:ident($($argument:ident: $type:ty),*), $found:expr, $fill:ident($into:ident), $real:ident($($pass:expr),*);)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function of the same name.
            unsafe {
                match $found {
                    Some(Ok(node)) => $fill(node, $into),
                    Some(Err(error)) => errno::fail(error),
                    None => real::$real($($pass),*),
                }
            }
        }
    )*};
}

/// Returns the device file of a file descriptor.
fn of_descriptor(fd: c_int) -> Option<Result<Node, c_int>> {
    table::get(fd).map(|entry| Ok(entry.node))
}

status! {
    stat(path: *const c_char, status: *mut libc::stat), find(libc::AT_FDCWD, path), fill(status), stat(path, status);
    stat64(path: *const c_char, status: *mut libc::stat), find(libc::AT_FDCWD, path), fill(status), stat(path, status);
    lstat(path: *const c_char, status: *mut libc::stat), find(libc::AT_FDCWD, path), fill(status), lstat(path, status);
    lstat64(path: *const c_char, status: *mut libc::stat), find(libc::AT_FDCWD, path), fill(status), lstat(path, status);
    fstat(fd: c_int, status: *mut libc::stat), of_descriptor(fd), fill(status), fstat(fd, status);
    fstat64(fd: c_int, status: *mut libc::stat), of_descriptor(fd), fill(status), fstat(fd, status);
    fstatat(dir: c_int, path: *const c_char, status: *mut libc::stat, flags: c_int),
        find(dir, path), fill(status), fstatat(dir, path, status, flags);
    fstatat64(dir: c_int, path: *const c_char, status: *mut libc::stat, flags: c_int),
        find(dir, path), fill(status), fstatat(dir, path, status, flags);
    statx(dir: c_int, path: *const c_char, flags: c_int, mask: c_uint, status: *mut libc::statx),
        find(dir, path), fill_extended(status), statx(dir, path, flags, mask, status);
    // Programs that were built for a glibc before 2.33 call these.
    __xstat(version: c_int, path: *const c_char, status: *mut libc::stat),
        { let _ = version; find(libc::AT_FDCWD, path) }, fill(status), stat(path, status);
    __xstat64(version: c_int, path: *const c_char, status: *mut libc::stat),
        { let _ = version; find(libc::AT_FDCWD, path) }, fill(status), stat(path, status);
    __lxstat(version: c_int, path: *const c_char, status: *mut libc::stat),
        { let _ = version; find(libc::AT_FDCWD, path) }, fill(status), lstat(path, status);
    __lxstat64(version: c_int, path: *const c_char, status: *mut libc::stat),
        { let _ = version; find(libc::AT_FDCWD, path) }, fill(status), lstat(path, status);
    __fxstat(version: c_int, fd: c_int, status: *mut libc::stat),
        { let _ = version; of_descriptor(fd) }, fill(status), fstat(fd, status);
    __fxstat64(version: c_int, fd: c_int, status: *mut libc::stat),
        { let _ = version; of_descriptor(fd) }, fill(status), fstat(fd, status);
}

/// Grants all permissions except execution.
fn permits(mode: c_int) -> c_int {
    if mode & libc::X_OK == 0 { 0 } else { errno::fail(libc::EACCES) }
}

fn ok(node: Node, mode: c_int) -> c_int {
    let _ = node;
    permits(mode)
}

status! {
    access(path: *const c_char, mode: c_int), find(libc::AT_FDCWD, path), ok(mode), access(path, mode);
    faccessat(dir: c_int, path: *const c_char, mode: c_int, flags: c_int),
        find(dir, path), ok(mode), faccessat(dir, path, mode, flags);
}

const _: fn() = || {
    // `libc::stat` and `stat64` are the same structure on x86-64.
    let _ = size_of::<[u8; size_of::<libc::stat>() - size_of::<libc::stat64>()]>();
    let _: Option<*mut c_void> = None;
};
