//! The table of file descriptors that are device files.
//!
//! A device file cannot have a descriptor beyond the table. By default, processes cannot open that many descriptors.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use xdma_chardev::Node;

const SIZE: usize = 1 << 16;
/// Marks a file descriptor that belongs to this library.
const INTERNAL: u32 = u32::MAX;

/// 0 for other files, [`INTERNAL`], or the minor number plus 1.
static KINDS: [AtomicU32; SIZE] = [const { AtomicU32::new(0) }; SIZE];
/// The flags of `open`.
static FLAGS: [AtomicU32; SIZE] = [const { AtomicU32::new(0) }; SIZE];
/// The broker's number for the open file.
static FILES: [AtomicU64; SIZE] = [const { AtomicU64::new(0) }; SIZE];

/// The highest file descriptor that was ever internal.
static HIGHEST_INTERNAL: AtomicU32 = AtomicU32::new(0);

/// An open device file.
#[derive(Clone, Copy)]
pub struct Entry {
    pub node: Node,
    /// The flags of `open`.
    pub flags: u32,
    /// The broker's number for the file; 0 for an event file.
    pub file: u64,
}

/// Returns whether the table has an entry for a file descriptor.
pub fn holds(fd: i32) -> bool {
    at(fd).is_some()
}

/// Returns the device file of a file descriptor.
#[inline]
pub fn get(fd: i32) -> Option<Entry> {
    let at = usize::try_from(fd).ok()?;
    match KINDS.get(at)?.load(Ordering::Acquire) {
        0 | INTERNAL => None,
        kind => Some(Entry {
            node: Node::from_minor(kind - 1)?,
            flags: FLAGS[at].load(Ordering::Relaxed),
            file: FILES[at].load(Ordering::Relaxed),
        }),
    }
}

pub fn set(fd: i32, entry: Entry) {
    let Some(kind) = at(fd) else { return };
    let fd = fd as usize;
    FLAGS[fd].store(entry.flags, Ordering::Relaxed);
    FILES[fd].store(entry.file, Ordering::Relaxed);
    kind.store(entry.node.minor() + 1, Ordering::Release);
}

pub fn clear(fd: i32) {
    if let Some(kind) = at(fd) {
        kind.store(0, Ordering::Release);
    }
}

/// Copies the entry of `from` to `to` after a `dup`.
pub fn copy(from: i32, to: i32) {
    match get(from) {
        Some(entry) => set(to, entry),
        None => clear(to),
    }
}

/// Marks a file descriptor of this library. `id` distinguishes it from later file descriptors with the same number.
pub fn set_internal(fd: i32, id: u64) {
    if let Some(kind) = at(fd) {
        FILES[fd as usize].store(id, Ordering::Relaxed);
        kind.store(INTERNAL, Ordering::Release);
        HIGHEST_INTERNAL.fetch_max(fd as u32, Ordering::Relaxed);
    }
}

/// Returns whether a file descriptor is still this library's own.
pub fn is_internal_with(fd: i32, id: u64) -> bool {
    is_internal(fd) && FILES[fd as usize].load(Ordering::Relaxed) == id
}

/// Returns all file descriptors of this library.
pub fn all_internal() -> impl Iterator<Item = u32> {
    internal(0..=HIGHEST_INTERNAL.load(Ordering::Relaxed))
}

pub fn is_internal(fd: i32) -> bool {
    at(fd).is_some_and(|kind| kind.load(Ordering::Acquire) == INTERNAL)
}

/// Returns the file descriptors in a range that belong to this library.
pub fn internal(range: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = u32> {
    let end = (*range.end()).min(SIZE as u32 - 1);
    (*range.start()..=end).filter(|fd| is_internal(*fd as i32))
}

fn at(fd: i32) -> Option<&'static AtomicU32> {
    KINDS.get(usize::try_from(fd).ok()?)
}
