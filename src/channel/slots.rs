//! The descriptors for single transfers: a closed list whose slots are filled in turn.

use super::start::Start;
use crate::descriptor::{Adjacency, DESCRIPTOR_BYTES, End, Flags, List, Segment};
use crate::memory::{Access, Allocation, DescriptorMemory, DmaSpace, MemoryError};
use crate::regs::Direction;
use std::sync::Arc;

#[derive(Debug)]
pub struct Slots {
    memory: DescriptorMemory,
    list: List,
    /// The number of slots, which is a power of two, minus one.
    mask: u64,
    direction: Direction,
    /// Whether each transfer is a packet of a stream.
    packets: bool,
    /// The first word of a transfer's last descriptor, without the length. It differs between the rings.
    last: u64,
    /// Pins of the memory that lists of transfers use. A single transfer pins its memory in its job.
    pins: Box<[Option<Arc<Allocation>>]>,
    /// Total number of slots filled and emptied. Their difference is the number in use.
    filled: u64,
    emptied: u64,
}

impl Slots {
    /// Allocates `count` slots; `count` is a power of two.
    pub fn new(
        space: &DmaSpace,
        count: usize,
        direction: Direction,
        packets: bool,
    ) -> Result<Self, MemoryError> {
        let buffer = space.allocate(count as u64 * DESCRIPTOR_BYTES, Access::CardReads)?;
        let list = List::new(buffer.address(), count, End::Closed, Adjacency::None);
        let mut memory = buffer.into_descriptor_memory();
        // The links never change. The other words are not a valid descriptor until the slot is filled, because the magic number
        // is missing.
        (0..count).for_each(|at| memory.write(at, [0, 0, 0, list.address((at + 1) % count)]));
        let pins = (0..count).map(|_| None).collect();
        Ok(Self {
            memory,
            list,
            mask: count as u64 - 1,
            direction,
            packets,
            last: 0,
            pins,
            filled: 0,
            emptied: 0,
        })
    }

    /// Sets the flags of a transfer's last descriptor.
    pub fn set_end(&mut self, flags: Flags) {
        self.last = control(&self.list, flags);
        self.set_ends_packet(self.packets);
    }

    /// Returns whether each transfer is a packet of a stream.
    pub fn packets(&self) -> bool {
        self.packets
    }

    /// Sets whether the transfers that follow end a packet of a stream.
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

    /// Returns the device address of the list.
    #[inline]
    pub fn base(&self) -> u64 {
        self.list.base()
    }

    /// Returns where the engine starts with the slot that is filled next.
    #[inline(always)]
    pub fn next(&self) -> Start {
        Start { list: self.base(), first: self.address(self.filled), adjacent: 0 }
    }

    /// Returns the device address of the slot that is emptied next.
    pub fn oldest(&self) -> u64 {
        self.address(self.emptied)
    }

    #[inline]
    fn address(&self, position: u64) -> u64 {
        self.base() + DESCRIPTOR_BYTES * self.slot(position) as u64
    }

    #[inline]
    fn slot(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// Fills the next slot with a single transfer. A slot is free.
    #[inline(always)]
    pub fn push(&mut self, host: u64, card: u64, length: u32) {
        let (source, destination) = match self.direction {
            Direction::H2C => (host, card),
            Direction::C2H => (card, host),
        };
        let first = self.last | u64::from(length) << 32;
        self.memory.write(self.slot(self.filled), [first, source, destination]);
        self.filled += 1;
    }

    /// Fills the next slot with one descriptor of a list. A slot is free.
    pub fn push_part(&mut self, part: Segment, is_last: bool, pin: Arc<Allocation>) {
        let slot = self.slot(self.filled);
        debug_assert!(self.pins[slot].is_none(), "the slot is free");
        self.pins[slot] = Some(pin);
        let first = if is_last { self.last } else { control(&self.list, Flags::empty()) };
        let first = first | u64::from(part.length) << 32;
        self.memory.write(slot, [first, part.source, part.destination]);
        self.filled += 1;
    }

    /// Frees the oldest `count` slots, with which the engine is done. If they pin their memory, call [`drop_pins`](Self::drop_pins) next.
    #[inline(always)]
    pub fn release(&mut self, count: u32) {
        self.emptied += u64::from(count);
    }

    /// Releases the memory that the `count` most recently freed slots pinned.
    #[cold]
    #[inline(never)]
    pub fn drop_pins(&mut self, count: u32) {
        for position in self.emptied - u64::from(count)..self.emptied {
            let slot = self.slot(position);
            self.pins[slot] = None;
        }
    }

    /// Quarantines the slots and the memory of all lists in flight, because the engine may still use them.
    pub fn quarantine(&mut self) {
        self.pins.iter_mut().filter_map(Option::take).for_each(|pin| pin.quarantine());
        self.memory.quarantine();
    }
}

/// Returns the first word of a descriptor of this list, without the length.
fn control(list: &List, flags: Flags) -> u64 {
    list.descriptor(0, Segment { source: 0, destination: 0, length: 0 }, flags).to_quads()[0]
}
