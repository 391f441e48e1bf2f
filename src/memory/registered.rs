//! The caller's own memory, given to the card.

use super::buffer::Allocation;
use super::{Access, Buffer, CallerMemory, DmaMemory, DmaSpace, FromCard, MemoryError, Piece, ToCard};
use super::{bytes_of, element::bytes_of_mut};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;

/// A vector that the card reads or writes, where it lies as far as the bus can pin it.
///
/// Whole pages are used in place. The head and the tail, whose pages may hold other objects too, and all of it where
/// nothing can pin it, are staged in memory of ours.
#[derive(Debug)]
pub struct Registered<T: ToCard> {
    /// Ours again once unmapped; while the card may write it, only `ptr` is used.
    data: ManuallyDrop<Vec<T>>,
    parts: Vec<Part>,
    access: Access,
}

#[derive(Debug)]
struct Part {
    /// Range of bytes of the vector.
    range: Range<u64>,
    buffer: Buffer,
    staged: bool,
}

impl<T: ToCard> Registered<T> {
    pub(super) fn new(space: &DmaSpace, data: Vec<T>, access: Access) -> Result<Self, MemoryError> {
        let bytes = size_of_val(data.as_slice()) as u64;
        if bytes == 0 {
            return Err(MemoryError::Empty);
        }
        let mut data = ManuallyDrop::new(data);
        let ptr = data.as_mut_ptr().cast::<u8>();
        let inner = match space.caller_memory() {
            CallerMemory::Pinned => whole_pages(ptr as u64, bytes, space.page_bytes()),
            CallerMemory::Staged(_) => 0..0,
        };
        let mut this = Self { data, parts: vec![], access };
        if inner.is_empty() {
            this.stage(space, 0..bytes)?;
            return Ok(this);
        }
        this.stage(space, 0..inner.start)?;
        let len = inner.end - inner.start;
        // SAFETY: the pages belong to the vector as a whole. It is not freed or moved before they are unmapped: `Drop`
        // hands it to the mapping. From here on no reference is made to it if the card may write it.
        let mapping = Arc::new(unsafe { space.map_callers(ptr.add(inner.start as usize), len, access)? });
        let buffer = Buffer::new(Allocation::new(mapping, 0, len, None));
        this.parts.push(Part { range: inner.clone(), buffer, staged: false });
        this.stage(space, inner.end..bytes)?;
        Ok(this)
    }

    fn stage(&mut self, space: &DmaSpace, range: Range<u64>) -> Result<(), MemoryError> {
        if range.is_empty() {
            return Ok(());
        }
        let buffer = space.allocate(range.end - range.start, self.access)?;
        self.parts.push(Part { range, buffer, staged: true });
        if self.access == Access::CardReads { self.refresh() } else { Ok(()) }
    }

    /// Copies the staged parts from the vector.
    fn refresh(&mut self) -> Result<(), MemoryError> {
        let bytes = bytes_of(&self.data);
        for part in self.parts.iter_mut().filter(|p| p.staged) {
            part.buffer.write(0, &bytes[part.range.start as usize..part.range.end as usize])?;
        }
        Ok(())
    }

    fn idle(&self) -> Result<(), MemoryError> {
        self.parts.iter().try_for_each(|part| part.buffer.hold().idle())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements; never so.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// How many bytes are copied rather than used in place.
    pub fn staged_bytes(&self) -> u64 {
        self.parts.iter().filter(|p| p.staged).map(|p| p.range.end - p.range.start).sum()
    }

    /// The elements, which the card only reads.
    ///
    /// # Errors
    ///
    /// [`MemoryError::WrongAccess`] if the card may write them; use [`read`](Self::read).
    pub fn as_slice(&self) -> Result<&[T], MemoryError> {
        match self.access {
            Access::CardReads => Ok(&self.data),
            has => Err(MemoryError::WrongAccess { has, remedy: "use `read` or `into_inner`" }),
        }
    }

    /// Changes elements between transfers.
    ///
    /// # Errors
    ///
    /// [`MemoryError::InFlight`] while a transfer uses them, [`MemoryError::WrongAccess`] if the card may write them.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut [T]) -> R) -> Result<R, MemoryError> {
        if self.access != Access::CardReads {
            return Err(MemoryError::WrongAccess { has: self.access, remedy: "use `read` or `into_inner`" });
        }
        self.idle()?;
        let result = change(&mut self.data);
        self.refresh()?;
        Ok(result)
    }
}

impl<T: FromCard> Registered<T> {
    /// Copies elements that the card wrote, from element `first` on.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`].
    pub fn read(&self, first: usize, to: &mut [T]) -> Result<(), MemoryError> {
        let size = size_of::<T>() as u64;
        let start = (first as u64).saturating_mul(size);
        let end = start.saturating_add(to.len() as u64 * size);
        if end > self.byte_len() {
            return Err(MemoryError::OutOfRange { start, end, len: self.byte_len() });
        }
        let bytes = bytes_of_mut(to);
        for part in &self.parts {
            let (from, until) = (start.max(part.range.start), end.min(part.range.end));
            if from < until {
                let into = &mut bytes[(from - start) as usize..(until - start) as usize];
                part.buffer.read(from - part.range.start, into)?;
            }
        }
        Ok(())
    }

    /// Takes the memory away from the card and gives the vector back, with what the card wrote.
    ///
    /// # Errors
    ///
    /// The registration itself, with [`MemoryError::InFlight`], while a transfer or a program uses it.
    pub fn into_inner(mut self) -> Result<Vec<T>, (Self, MemoryError)> {
        if let Err(error) = self.idle() {
            return Err((self, error));
        }
        for part in &self.parts {
            let users = Arc::strong_count(&part.buffer.hold()) as u32 - 2;
            if users > 0 {
                return Err((self, MemoryError::InFlight(users)));
            }
        }
        let mut staged = vec![];
        for part in self.parts.iter().filter(|p| p.staged && self.access == Access::CardWrites) {
            let mut bytes = vec![0u8; (part.range.end - part.range.start) as usize];
            if let Err(error) = part.buffer.read(0, &mut bytes) {
                return Err((self, error));
            }
            staged.push((part.range.clone(), bytes));
        }
        self.parts.clear(); // unmaps: from here on the vector is ours alone
        // SAFETY: taken once, as `self` is forgotten.
        let mut data = unsafe { ManuallyDrop::take(&mut self.data) };
        std::mem::forget(self);
        for (range, bytes) in staged {
            bytes_of_mut(&mut data)[range.start as usize..range.end as usize].copy_from_slice(&bytes);
        }
        Ok(data)
    }
}

impl<T: ToCard> Drop for Registered<T> {
    fn drop(&mut self) {
        // SAFETY: taken once, in drop.
        let data = unsafe { ManuallyDrop::take(&mut self.data) };
        // A transfer may still use the pages: the mapping frees the vector after it has unmapped them.
        match self.parts.iter().find(|p| !p.staged) {
            Some(part) => part.buffer.hold().adopt(Box::new(data)),
            None => drop(data),
        }
    }
}

impl<T: ToCard> DmaMemory for Registered<T> {
    fn byte_len(&self) -> u64 {
        (self.data.len() * size_of::<T>()) as u64
    }

    fn access(&self) -> Access {
        self.access
    }

    fn pieces<'a>(&'a self, range: Range<u64>, each: &mut dyn FnMut(Piece<'a>)) -> Result<(), MemoryError> {
        let len = self.byte_len();
        if range.end > len {
            return Err(MemoryError::OutOfRange { start: range.start, end: range.end, len });
        }
        if range.start >= range.end {
            return Err(MemoryError::Empty);
        }
        for part in &self.parts {
            let (from, until) = (range.start.max(part.range.start), range.end.min(part.range.end));
            if from < until {
                part.buffer.pieces(from - part.range.start..until - part.range.start, each)?;
            }
        }
        Ok(())
    }
}

/// The bytes of `bytes` from address `at` that fill pages of `page` bytes, as a range of offsets; empty if there are none.
fn whole_pages(at: u64, bytes: u64, page: u64) -> Range<u64> {
    let (first, last) = (at.next_multiple_of(page), (at + bytes) / page * page);
    if first < last { first - at..last - at } else { 0..0 }
}
