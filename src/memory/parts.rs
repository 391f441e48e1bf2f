//! The parts of a caller's memory: whole pages are mapped in place, the rest is staged.

use super::buffer::Allocation;
use super::{Access, Buffer, CallerMemory, DmaSpace, MemoryError, Piece, Pieces};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Width of a card's widest data path in bytes.
const BEAT: u64 = 64;

/// The parts of a registered or lent range, in order.
#[derive(Debug)]
pub(super) struct Parts {
    all: Vec<Part>,
    access: Access,
    len: u64,
}

#[derive(Debug)]
struct Part {
    /// The bytes of the caller's memory that it covers.
    range: Range<u64>,
    buffer: Buffer,
    /// Offset in the buffer at which the range starts.
    skip: u64,
    staged: bool,
}

impl Parts {
    /// Maps `len` bytes at `ptr` for the card.
    ///
    /// # Safety
    ///
    /// The bytes stay allocated until the parts are dropped or [revoked](Self::revoke), or their owner is passed to
    /// [`attach_owner`](Self::attach_owner). They are plain bytes. If the card may write them, no reference to them is used
    /// meanwhile.
    pub unsafe fn new(space: &DmaSpace, ptr: *mut u8, len: u64, access: Access) -> Result<Self, MemoryError> {
        if len == 0 {
            return Err(MemoryError::Empty);
        }
        let pages = match space.caller_memory() {
            CallerMemory::Pinned => whole_pages(ptr as u64, len, space.page_bytes()),
            CallerMemory::Staged(_) => 0..0,
        };
        // Parts are split at multiples of a beat from the first byte, so that no beat on the card's side is split.
        let used = pages.start.next_multiple_of(BEAT)..pages.end / BEAT * BEAT;
        let mut this = Self { all: vec![], access, len };
        if used.is_empty() {
            this.stage(space, 0..len)?;
            return Ok(this);
        }
        // Stage first: once the caller's pages are mapped, no step may fail, since the caller would then free them.
        this.stage(space, 0..used.start)?;
        let at = this.all.len();
        this.stage(space, used.end..len)?;
        let bytes = pages.end - pages.start;
        // SAFETY: these pages lie entirely in the caller's memory; our caller guarantees the rest.
        let mapping = unsafe { space.map_caller_memory(ptr.add(pages.start as usize), bytes, access)? };
        let buffer = Buffer::new(Allocation::new(Arc::new(mapping), 0, bytes, None));
        let skip = used.start - pages.start;
        this.all.insert(at, Part { range: used, buffer, skip, staged: false });
        Ok(this)
    }

    /// Creates an empty list.
    pub fn empty(access: Access) -> Self {
        Self { all: vec![], access, len: 0 }
    }

    fn stage(&mut self, space: &DmaSpace, range: Range<u64>) -> Result<(), MemoryError> {
        if !range.is_empty() {
            let buffer = space.allocate(range.end - range.start, self.access)?;
            self.all.push(Part { range, buffer, skip: 0, staged: true });
        }
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn access(&self) -> Access {
        self.access
    }

    pub fn staged_bytes(&self) -> u64 {
        self.all.iter().filter(|p| p.staged).map(|p| p.range.end - p.range.start).sum()
    }

    pub fn check_idle(&self) -> Result<(), MemoryError> {
        self.all.iter().try_for_each(|part| part.buffer.handle().check_idle())
    }

    /// Calls `each` with each staged part: its range of the caller's bytes, and its buffer.
    pub fn each_staged(
        &mut self,
        mut each: impl FnMut(Range<u64>, &mut Buffer) -> Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        let mut staged = self.all.iter_mut().filter(|part| part.staged);
        staged.try_for_each(|part| each(part.range.clone(), &mut part.buffer))
    }

    /// Copies the caller's bytes to the staged parts.
    pub fn copy_in(&mut self, bytes: &[u8]) -> Result<(), MemoryError> {
        for part in self.all.iter_mut().filter(|p| p.staged) {
            part.buffer.write(0, &bytes[part.range.start as usize..part.range.end as usize])?;
        }
        Ok(())
    }

    /// Copies the staged parts to the caller's bytes.
    pub fn copy_out(&self, bytes: &mut [u8]) -> Result<(), MemoryError> {
        for part in self.all.iter().filter(|p| p.staged) {
            part.buffer.read(0, &mut bytes[part.range.start as usize..part.range.end as usize])?;
        }
        Ok(())
    }

    /// Copies bytes to `to`, from offset `start` on.
    pub fn read(&self, start: u64, to: &mut [u8]) -> Result<(), MemoryError> {
        let end = start.saturating_add(to.len() as u64);
        if end > self.len {
            return Err(MemoryError::OutOfRange { start, end, len: self.len });
        }
        for part in &self.all {
            let (from, until) = (start.max(part.range.start), end.min(part.range.end));
            if from < until {
                let into = &mut to[(from - start) as usize..(until - start) as usize];
                part.buffer.read(part.skip + from - part.range.start, into)?;
            }
        }
        Ok(())
    }

    /// Returns a range as a single piece, if there is only one part.
    #[inline]
    pub fn piece(&self, range: Range<u64>) -> Option<Piece<'_>> {
        let [part] = &self.all[..] else { return None };
        let inside = range.start < range.end && range.end <= self.len;
        if inside { part.buffer.piece(part.skip + range.start..part.skip + range.end) } else { None }
    }

    pub fn pieces<'a>(
        &'a self,
        range: Range<u64>,
        each: &mut dyn FnMut(Piece<'a>),
    ) -> Result<(), MemoryError> {
        if range.end > self.len {
            return Err(MemoryError::OutOfRange { start: range.start, end: range.end, len: self.len });
        }
        if range.start >= range.end {
            return Err(MemoryError::Empty);
        }
        for part in &self.all {
            let (from, until) = (range.start.max(part.range.start), range.end.min(part.range.end));
            if from < until {
                let at = part.skip + from - part.range.start;
                part.buffer.pieces(at..at + (until - from), each)?;
            }
        }
        Ok(())
    }

    /// Revokes the card's access to the caller's pages now, even if handles to them still exist.
    pub fn revoke(&self) -> Result<(), MemoryError> {
        self.all.iter().filter(|p| !p.staged).try_for_each(|part| part.buffer.handle().revoke())
    }

    /// Keeps `owner`, which owns the caller's memory, until the card can no longer access the memory.
    pub fn attach_owner(&self, owner: Box<dyn Any + Send>) {
        if let Some(part) = self.all.iter().find(|p| !p.staged) {
            part.buffer.handle().attach_owner(owner);
        }
    }
}

/// Returns the whole pages of `page` bytes in the `bytes` bytes at address `at`, as a range of offsets; empty if there are none.
fn whole_pages(at: u64, bytes: u64, page: u64) -> Range<u64> {
    let (first, last) = (at.next_multiple_of(page), (at + bytes) / page * page);
    if first < last { first - at..last - at } else { 0..0 }
}
