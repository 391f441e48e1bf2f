//! The ring of descriptors for single transfers: a closed list, used slot after slot.

use crate::descriptor::{Adjacency, DESCRIPTOR_BYTES, End, Flags, List, Segment};
use crate::memory::{Access, Allocation, Buffer, DmaSpace, Keep, MemoryError};
use std::sync::Arc;

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

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn free(&self) -> usize {
        self.len() - (self.filled - self.emptied) as usize
    }

    /// Device address of the slot that is filled next.
    pub fn tail(&self) -> u64 {
        self.list.address(self.slot(self.filled))
    }

    pub fn list(&self) -> &List {
        &self.list
    }

    fn slot(&self, position: u64) -> usize {
        position as usize & (self.len() - 1)
    }

    /// Fills the next slot; there is a free one.
    pub fn push(&mut self, segment: Segment, flags: Flags, memory: &Arc<Allocation>) {
        let slot = self.slot(self.filled);
        let descriptor = self.list.descriptor(slot, segment, flags).to_quads();
        self.buffer.write_groups(slot, std::iter::once(descriptor));
        self.keeps[slot] = Some(Keep::new(memory.clone()));
        self.filled += 1;
    }

    /// Empties the oldest `count` slots: the engine is done with them.
    pub fn release(&mut self, count: usize) {
        for _ in 0..count {
            let slot = self.slot(self.emptied);
            self.keeps[slot] = None;
            self.emptied += 1;
        }
    }

    /// Leaks the memory of all transfers in flight: the engine may still use it.
    pub fn quarantine(&mut self) {
        self.keeps.iter_mut().filter_map(Option::take).for_each(std::mem::forget);
        std::mem::forget(self.buffer.hold());
    }
}
