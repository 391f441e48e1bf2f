//! `open` and its variants.

use crate::table::{self, Entry};
use crate::{errno, explain, real, service};
use libc::{c_char, c_int, mode_t};
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use xdma_chardev::{Call, FileHeader, Node, Operation, Request};

/// Returns the card number and the device file that a path names. A relative path starts at the directory `dir`.
///
/// # Safety
///
/// `path` must be null or point to a C string.
pub unsafe fn device(dir: c_int, path: *const c_char) -> Option<(u32, Node)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's contract.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    let found = match path.starts_with('/') {
        true => Node::from_path(&simplified(path)),
        false if path.contains("xdma") && is_dev(dir) => {
            Node::from_path(&format!("/dev/{}", path.trim_start_matches("./")))
        }
        false => None,
    };
    if found.is_none() && explain::is_enabled() && path.starts_with("/dev/xdma") {
        explain::remark(&format!("{}: {path} is not a device file", explain::program()));
    }
    found
}

/// Removes empty and `.` components from a path that may name a device file.
fn simplified(path: &str) -> Cow<'_, str> {
    if !path.contains("xdma") || !path.contains("//") && !path.contains("/./") {
        return path.into();
    }
    let components = path.split('/').filter(|component| !matches!(*component, "" | "."));
    components.flat_map(|component| ["/", component]).collect::<String>().into()
}

/// Like [`device`], but also accepts paths that name an open file descriptor, such as `/dev/stdin`. Opening such a path opens
/// the file again.
///
/// # Safety
///
/// As for [`device`].
pub unsafe fn device_to_open(dir: c_int, path: *const c_char) -> Option<(u32, Node)> {
    // SAFETY: the caller's contract.
    unsafe {
        device(dir, path).or_else(|| {
            let path = if path.is_null() { None } else { CStr::from_ptr(path).to_str().ok() }?;
            let fd = match path {
                "/dev/stdin" => 0,
                "/dev/stdout" => 1,
                "/dev/stderr" => 2,
                _ => path.strip_prefix("/dev/fd/").or(path.strip_prefix("/proc/self/fd/"))?.parse().ok()?,
            };
            Some((0, table::get(fd)?.node))
        })
    }
}

/// Returns whether an open directory, or the current directory (`AT_FDCWD`), is `/dev`.
pub fn is_dev(dir: c_int) -> bool {
    let link = match dir {
        libc::AT_FDCWD => c"/proc/self/cwd".to_owned(),
        dir => CString::new(format!("/proc/self/fd/{dir}")).unwrap_or_default(),
    };
    let saved = errno::get();
    let mut target = [0u8; 8];
    // SAFETY: the link is a C string, and the buffer is valid for the call.
    let length = unsafe { libc::readlink(link.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    errno::set(saved);
    usize::try_from(length).is_ok_and(|length| &target[..length] == b"/dev")
}

/// Opens a device file. Returns the file descriptor, or sets errno and returns -1.
pub fn open_device(card: u32, node: Node, flags: c_int) -> c_int {
    // A broker serves one card, number 0.
    if card != 0 {
        return errno::fail(libc::ENOENT);
    }
    let exists = || crate::status::exists(card, node).is_ok();
    if flags & libc::O_DIRECTORY != 0 && exists() {
        return errno::fail(libc::ENOTDIR); // asked by `cp`
    }
    let creates = libc::O_CREAT | libc::O_EXCL;
    if flags & creates == creates && exists() {
        return errno::fail(libc::EEXIST);
    }
    open_node(node, 0, flags)
}

/// Opens a file that the broker serves. `card` is 0, or the number of its PCI address.
fn open_node(node: Node, card: u64, flags: c_int) -> c_int {
    let fd = request_node(node, card, flags);
    explain::count(Call::Open, node, if fd < 0 { -1 } else { 0 });
    fd
}

fn request_node(node: Node, card: u64, flags: c_int) -> c_int {
    let flags = flags as u32;
    let value = node.minor().into();
    let request = Request { flags, value, position: card, ..Request::new(Operation::Open, 0) };
    match service::call_for_descriptor(&request) {
        // The file descriptor is beyond the table.
        (0, Some(fd)) if !table::holds(fd) => {
            // SAFETY: the descriptor was just received.
            unsafe { real::close(fd) };
            errno::fail(libc::EMFILE)
        }
        (0, Some(fd)) => {
            // File descriptors are received with close-on-exec set.
            if flags & libc::O_CLOEXEC as u32 == 0 {
                // SAFETY: the descriptor was just received.
                unsafe { real::fcntl(fd, libc::F_SETFD, std::ptr::null_mut()) };
            }
            let file = header(fd).map_or(0, |header| header.file);
            table::set(fd, Entry { node, flags, file });
            fd
        }
        (0, None) => errno::fail(libc::EMFILE),
        (error, _) => errno::result(error) as c_int,
    }
}

/// Opens the file of a BAR in sysfs, if it belongs to the broker's card. The kernel refuses to map the file while a driver uses
/// the card.
///
/// # Safety
///
/// `path` must be null or point to a C string.
unsafe fn open_resource(path: *const c_char, flags: c_int) -> Option<c_int> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's contract.
    let (card, node) = Node::from_resource(unsafe { CStr::from_ptr(path) }.to_str().ok()?)?;
    let request = Request { value: node.minor().into(), position: card, ..Request::new(Operation::Check, 0) };
    (service::call(request) >= 0).then(|| open_node(node, card, flags))
}

/// Returns the message that identifies an open device file, or `None` if the file descriptor is not one.
pub fn header(fd: c_int) -> Option<FileHeader> {
    let mut bytes = [0u8; FileHeader::BYTES + 1];
    // SAFETY: the buffer is valid for the call. The message stays in the socket.
    let length = unsafe {
        libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT)
    };
    FileHeader::from_bytes(bytes.get(..usize::try_from(length).ok()?)?)
}

/// Removes the entry of a device file that the C library itself has closed, when its file descriptor is reused.
fn opened(fd: c_int) -> c_int {
    if table::get(fd).is_some() && crate::startup::owns_table() {
        table::clear(fd);
    }
    fd
}

/// Defines variants of `open` and `openat`.
macro_rules! variants {
    ($($open:ident, $openat:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
            // SAFETY: the caller's contract is that of the C library's function.
            unsafe {
                match device_to_open(libc::AT_FDCWD, path) {
                    Some((card, node)) => open_device(card, node, flags),
                    None => open_resource(path, flags).unwrap_or_else(|| opened(real::open(path, flags, mode))),
                }
            }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $openat(dir: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
            // SAFETY: as above.
            unsafe {
                match device_to_open(dir, path) {
                    Some((card, node)) => open_device(card, node, flags),
                    None => open_resource(path, flags).unwrap_or_else(|| opened(real::openat(dir, path, flags, mode))),
                }
            }
        }
    )*};
}

// Fortified programs call the variants with `_2`, which have no mode. On x86-64, all variants support large files.
variants! {
    open, openat;
    open64, openat64;
    __open_2, __openat_2;
    __open64_2, __openat64_2;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { open(path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { creat(path, mode) }
}
