//! The descriptors for single transfers: a closed list, used slot after slot.

use super::start::Start;
use crate::descriptor::{Adjacency, DESCRIPTOR_BYTES, End, Flags, List, Segment};
use crate::memory::{Access, Allocation, DmaSpace, MemoryError, Quads};
use crate::regs::Direction;
use std::sync::Arc;

#[derive(Debug)]
pub struct Slots {
    quads: Quads,
    list: List,
    /// The number of slots, a power of two, less one.
    mask: u64,
    direction: Direction,
    /// The first word of a transfer's last descriptor, but for its length: it differs between the rings.
    last: u64,
    /// What keeps the memory of lists; single transfers keep theirs with their jobs.
    keeps: Box<[Option<Arc<Allocation>>]>,
    /// Slots ever filled and ever emptied; their difference is in use.
    filled: u64,
    emptied: u64,
}

impl Slots {
    /// `count` slots, a power of two.
    pub fn new(space: &DmaSpace, count: usize, direction: Direction) -> Result<Self, MemoryError> {
        let buffer = space.allocate(count as u64 * DESCRIPTOR_BYTES, Access::CardReads)?;
        let list = List::new(buffer.address(), count, End::Closed, Adjacency::None);
        let mut quads = buffer.into_quads();
        // What links them stays as it is. The rest is no descriptor until a slot is filled: the magic number is not there.
        (0..count).for_each(|at| quads.write(at, [0, 0, 0, list.address((at + 1) % count)]));
        let keeps = (0..count).map(|_| None).collect();
        Ok(Self { quads, list, mask: count as u64 - 1, direction, last: 0, keeps, filled: 0, emptied: 0 })
    }

    /// The flags of a transfer's last descriptor.
    pub fn set_end(&mut self, flags: Flags) {
        self.last = control(&self.list, flags);
    }

    /// Whether the transfers that follow end a packet of a stream.
    pub fn set_ends_packet(&mut self, ends: bool) {
        let flag = u64::from(Flags::EOP.bits());
        self.last = if ends { self.last | flag } else { self.last & !flag };
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    pub fn free(&self) -> usize {
        self.len() - (self.filled - self.emptied) as usize
    }

    /// Device address of the list.
    #[inline]
    pub fn base(&self) -> u64 {
        self.list.base()
    }

    /// Where the engine begins with the slot that is filled next.
    #[inline(always)]
    pub fn next(&self) -> Start {
        self.start(self.filled)
    }

    /// Where the engine begins with the slot at a position.
    #[inline(always)]
    pub fn start(&self, position: u64) -> Start {
        Start { list: self.base(), first: self.address(position), adjacent: 0 }
    }

    #[inline]
    fn address(&self, position: u64) -> u64 {
        self.base() + DESCRIPTOR_BYTES * self.slot(position) as u64
    }

    /// Slots that were ever filled: the position of the next.
    #[inline]
    pub fn filled(&self) -> u64 {
        self.filled
    }

    #[inline]
    fn slot(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// Fills the next slot with a transfer of its own; there is a free one.
    #[inline(always)]
    pub fn push(&mut self, host: u64, card: u64, length: u32) {
        let (source, destination) = match self.direction {
            Direction::H2C => (host, card),
            Direction::C2H => (card, host),
        };
        let first = self.last | u64::from(length) << 32;
        self.quads.write(self.slot(self.filled), [first, source, destination]);
        self.filled += 1;
    }

    /// Fills the next slot with a part of a list; there is a free one.
    pub fn push_part(&mut self, part: Segment, is_last: bool, keep: Arc<Allocation>) {
        let slot = self.slot(self.filled);
        debug_assert!(self.keeps[slot].is_none(), "a slot is emptied before it is free");
        self.keeps[slot] = Some(keep);
        let first = if is_last { self.last } else { control(&self.list, Flags::empty()) };
        let first = first | u64::from(part.length) << 32;
        self.quads.write(slot, [first, part.source, part.destination]);
        self.filled += 1;
    }

    /// Empties the oldest `count` slots: the engine is done with them. `kept` says that their job kept the memory, not they.
    #[inline(always)]
    pub fn release(&mut self, count: u32, kept: bool) {
        if !kept {
            self.drop_keeps(count);
        }
        self.emptied += u64::from(count);
    }

    #[cold]
    #[inline(never)]
    fn drop_keeps(&mut self, count: u32) {
        for position in self.emptied..self.emptied + u64::from(count) {
            let slot = self.slot(position);
            self.keeps[slot] = None;
        }
    }

    /// The engine may go on using the slots, and the memory of all lists in flight.
    pub fn condemn(&mut self) {
        self.keeps.iter_mut().filter_map(Option::take).for_each(|keep| keep.condemn());
        self.quads.condemn();
    }
}

/// The first word of each of the list's descriptors, without a length.
fn control(list: &List, flags: Flags) -> u64 {
    list.descriptor(0, Segment { source: 0, destination: 0, length: 0 }, flags).to_quads()[0]
}
