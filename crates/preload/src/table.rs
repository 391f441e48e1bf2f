//! Which descriptors are device files.
//!
//! A descriptor beyond the table is not recognized; no process has as many by default.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use xdma_chardev::Node;

const SIZE: usize = 1 << 16;
/// A descriptor of this library itself.
const INTERNAL: u32 = u32::MAX;

/// 0, [`INTERNAL`], or 1 + the minor number, with the access mode and flags of `open` in the upper bits.
static KINDS: [AtomicU32; SIZE] = [const { AtomicU32::new(0) }; SIZE];
/// The flags of `open`.
static FLAGS: [AtomicU32; SIZE] = [const { AtomicU32::new(0) }; SIZE];
/// The number of the open file at the broker.
static FILES: [AtomicU64; SIZE] = [const { AtomicU64::new(0) }; SIZE];

/// An open device file.
#[derive(Clone, Copy)]
pub struct Entry {
    pub node: Node,
    /// The flags of `open`.
    pub flags: u32,
    /// Its number at the broker; 0 for an event file.
    pub file: u64,
}

/// Returns the device file of a descriptor.
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

/// Makes `to` the same as `from`, after a `dup`.
pub fn copy(from: i32, to: i32) {
    match get(from) {
        Some(entry) => set(to, entry),
        None => clear(to),
    }
}

pub fn set_internal(fd: i32) {
    if let Some(kind) = at(fd) {
        kind.store(INTERNAL, Ordering::Release);
    }
}

pub fn is_internal(fd: i32) -> bool {
    at(fd).is_some_and(|kind| kind.load(Ordering::Acquire) == INTERNAL)
}

/// Returns the descriptors of a range that are not closed by the program but belong to this library.
pub fn internal(range: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = u32> {
    let end = (*range.end()).min(SIZE as u32 - 1);
    (*range.start()..=end).filter(|fd| is_internal(*fd as i32))
}

fn at(fd: i32) -> Option<&'static AtomicU32> {
    KINDS.get(usize::try_from(fd).ok()?)
}
