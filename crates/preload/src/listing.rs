//! Adds the device files to listings of `/dev`.

use crate::open::is_dev;
use crate::{real, status};
use libc::{AT_FDCWD, DIR, c_char, c_int, dirent64};
use std::ffi::CStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use xdma_chardev::Node;

/// An open directory stream of `/dev`.
pub struct Listing {
    /// The address of the stream.
    address: usize,
    /// The device files that have not been returned yet, the last one first.
    nodes: Vec<Node>,
    /// The entry that `readdir` has returned.
    entry: Box<dirent64>,
}

static LISTINGS: Mutex<Vec<Listing>> = Mutex::new(vec![]);

pub type Guard = MutexGuard<'static, Vec<Listing>>;

pub fn lock() -> Guard {
    LISTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the device files, the last one first.
fn nodes() -> Vec<Node> {
    let mut nodes: Vec<_> = Node::all().filter(|node| status::exists(0, *node).is_ok()).collect();
    nodes.reverse();
    nodes
}

/// Records a stream of `/dev`.
fn add(directory: *mut DIR) -> *mut DIR {
    // SAFETY: the structure consists of numbers, for which 0 is valid.
    let entry = Box::new(unsafe { std::mem::zeroed() });
    let nodes = nodes();
    lock().push(Listing { address: directory.addr(), nodes, entry });
    directory
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn opendir(path: *const c_char) -> *mut DIR {
    // SAFETY: the caller's contract is that of the C library's function.
    let directory = unsafe { real::opendir(path) };
    // SAFETY: the path of a directory that was opened is a C string.
    if !directory.is_null() && is_listed(unsafe { CStr::from_ptr(path) }) {
        return add(directory);
    }
    directory
}

/// Returns whether a path names `/dev`.
pub fn is_listed(path: &CStr) -> bool {
    match path.to_bytes() {
        b"/dev" | b"/dev/" => true,
        b"." | b"./" => is_dev(AT_FDCWD),
        _ => false,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fdopendir(fd: c_int) -> *mut DIR {
    // SAFETY: as above.
    let directory = unsafe { real::fdopendir(fd) };
    if !directory.is_null() && is_dev(fd) { add(directory) } else { directory }
}

/// Returns the next entry of the directory itself, then those of the device files.
unsafe fn next(directory: *mut DIR) -> *mut dirent64 {
    // SAFETY: the caller's contract is that of the C library's function.
    let entry = unsafe { real::readdir64(directory) };
    if !entry.is_null() {
        return entry;
    }
    let mut listings = lock();
    let listing = listings.iter_mut().find(|listing| listing.address == directory.addr());
    let Some((listing, node)) = listing.and_then(|listing| {
        let node = listing.nodes.pop()?;
        Some((listing, node))
    }) else {
        return entry;
    };
    let name = format!("xdma0_{node}");
    listing.entry.d_ino = u64::from(node.minor()) + 1;
    listing.entry.d_reclen = size_of::<dirent64>() as u16;
    listing.entry.d_type = libc::DT_CHR;
    listing.entry.d_name.fill(0);
    for (to, from) in listing.entry.d_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    &raw mut *listing.entry
}

/// On x86-64, `struct dirent` is the same as `struct dirent64`.
#[unsafe(no_mangle)]
unsafe extern "C" fn readdir(directory: *mut DIR) -> *mut dirent64 {
    // SAFETY: as above.
    unsafe { next(directory) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn readdir64(directory: *mut DIR) -> *mut dirent64 {
    // SAFETY: as above.
    unsafe { next(directory) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rewinddir(directory: *mut DIR) {
    if let Some(listing) = lock().iter_mut().find(|listing| listing.address == directory.addr()) {
        listing.nodes = nodes();
    }
    // SAFETY: as above.
    unsafe { real::rewinddir(directory) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn closedir(directory: *mut DIR) -> c_int {
    lock().retain(|listing| listing.address != directory.addr());
    // SAFETY: as above.
    unsafe { real::closedir(directory) }
}
