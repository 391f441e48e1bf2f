//! The ring of descriptors for single transfers: a closed list, used slot after slot.

use crate::descriptor::{Adjacency, DESCRIPTOR_BYTES, End, Flags, List, Segment};
use crate::memory::{Access, Buffer, DmaSpace, Keep, MemoryError};

#[derive(Debug)]
pub(super) struct Slots {
    buffer: Buffer,
    list: List,
    keeps: Box<[Option<Keep>]>,
    /// Slots ever filled and ever emptied; their difference is in use.
    filled: u64,
    emptied: u64,
}

impl Slots {
    /// A ring of `count` slots, a power of two.
    pub fn new(space: &DmaSpace, count: usize) -> Result<Self, MemoryError> {
        let buffer = space.allocate(count as u64 * DESCRIPTOR_BYTES, Access::CardReads)?;
        let list = List::new(buffer.address(), count, End::Closed, Adjacency::None);
        Ok(Self { buffer, list, keeps: (0..count).map(|_| None).collect(), filled: 0, emptied: 0 })
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    pub fn free(&self) -> usize {
        self.len() - (self.filled - self.emptied) as usize
    }

    /// Device address of the slot that is filled next.
    #[inline]
    pub fn tail(&self) -> u64 {
        self.list.address(self.slot(self.filled))
    }

    #[inline]
    pub fn list(&self) -> &List {
        &self.list
    }

    #[inline]
    fn slot(&self, position: u64) -> usize {
        position as usize & (self.len() - 1)
    }

    /// Fills the next slot; there is a free one.
    #[inline(always)]
    pub fn push(&mut self, segment: Segment, flags: Flags, keep: Keep) {
        let slot = self.slot(self.filled);
        let descriptor = self.list.descriptor(slot, segment, flags).to_quads();
        self.buffer.write_groups(slot, std::iter::once(descriptor));
        // There is nothing to drop: a slot is emptied before it is free.
        std::mem::forget(self.keeps[slot].replace(keep));
        self.filled += 1;
    }

    /// Empties the oldest `count` slots: the engine is done with them.
    #[inline(always)]
    pub fn release(&mut self, count: usize) {
        match count {
            1 => self.release_one(),
            _ => self.release_many(count),
        }
    }

    #[inline(always)]
    fn release_one(&mut self) {
        let slot = self.slot(self.emptied);
        self.keeps[slot] = None;
        self.emptied += 1;
    }

    #[cold]
    fn release_many(&mut self, count: usize) {
        (0..count).for_each(|_| self.release_one());
    }

    /// The engine may go on using the ring itself, and the memory of all transfers in flight.
    pub fn condemn(&mut self) {
        self.keeps.iter_mut().filter_map(Option::take).for_each(Keep::condemn);
        self.buffer.hold().condemn();
    }
}
