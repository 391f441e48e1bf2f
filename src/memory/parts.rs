//! The pieces of a caller's memory: whole pages in place, the rest staged.

use super::buffer::Allocation;
use super::{Access, Buffer, CallerMemory, DmaMemory, DmaSpace, MemoryError, Piece};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// The widest data path of a card, in bytes.
const BEAT: u64 = 64;

#[derive(Debug)]
pub(super) struct Parts {
    all: Vec<Part>,
    access: Access,
    len: u64,
}

#[derive(Debug)]
struct Part {
    /// Range of bytes of the caller's memory.
    range: Range<u64>,
    buffer: Buffer,
    /// Where in the buffer the range starts.
    skip: u64,
    staged: bool,
}

impl Parts {
    /// # Safety
    ///
    /// The `len` bytes at `ptr` stay allocated until the parts were dropped or [revoked](Self::revoke), or are given to
    /// [`adopt`](Self::adopt). They are plain bytes, and no reference to them is used meanwhile if the card may write.
    pub unsafe fn new(space: &DmaSpace, ptr: *mut u8, len: u64, access: Access) -> Result<Self, MemoryError> {
        if len == 0 {
            return Err(MemoryError::Empty);
        }
        let pages = match space.caller_memory() {
            CallerMemory::Pinned => whole_pages(ptr as u64, len, space.page_bytes()),
            CallerMemory::Staged(_) => 0..0,
        };
        // Parts meet at whole beats from the first byte on, so that none is cut in two on the card's side.
        let used = pages.start.next_multiple_of(BEAT)..pages.end / BEAT * BEAT;
        let mut this = Self { all: vec![], access, len };
        if used.is_empty() {
            this.stage(space, 0..len)?;
            return Ok(this);
        }
        // Staged first: once the caller's pages are mapped, nothing may fail that would give them back.
        this.stage(space, 0..used.start)?;
        let at = this.all.len();
        this.stage(space, used.end..len)?;
        let bytes = pages.end - pages.start;
        // SAFETY: these pages belong to the caller's memory as a whole; the rest is our caller's promise.
        let mapping = unsafe { space.map_callers(ptr.add(pages.start as usize), bytes, access)? };
        let buffer = Buffer::new(Allocation::new(Arc::new(mapping), 0, bytes, None));
        let skip = used.start - pages.start;
        this.all.insert(at, Part { range: used, buffer, skip, staged: false });
        Ok(this)
    }

    /// No parts.
    pub fn none(access: Access) -> Self {
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

    pub fn idle(&self) -> Result<(), MemoryError> {
        self.all.iter().try_for_each(|part| part.buffer.handle().idle())
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

    /// Copies bytes from `start` on.
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

    /// The piece that a range is, if all of it lies in the only part.
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

    /// Takes the caller's pages away from the card now, whoever still holds them.
    pub fn revoke(&self) -> Result<(), MemoryError> {
        self.all.iter().filter(|p| !p.staged).try_for_each(|part| part.buffer.handle().revoke())
    }

    /// Keeps `owner`, which owns the caller's memory, until the card can no longer reach it.
    pub fn adopt(&self, owner: Box<dyn Any + Send>) {
        if let Some(part) = self.all.iter().find(|p| !p.staged) {
            part.buffer.handle().adopt(owner);
        }
    }
}

/// The bytes of `bytes` from address `at` that fill pages of `page` bytes, as a range of offsets; empty if there are none.
fn whole_pages(at: u64, bytes: u64, page: u64) -> Range<u64> {
    let (first, last) = (at.next_multiple_of(page), (at + bytes) / page * page);
    if first < last { first - at..last - at } else { 0..0 }
}
