//! Lists of transfers, from which programs are built.

use super::error::EngineError;
use crate::descriptor::{MAX_LENGTH, Segment};
use crate::memory::{Access, DmaMemory, Handle, Piece, SpaceId};
use crate::regs::Direction;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Lists often alternate between few allocations: so many are looked at before all are looked up.
const RECENT: usize = 4;

/// What the card does with memory that is moved in a direction.
#[inline]
pub(super) fn access_of(direction: Direction) -> Access {
    match direction {
        Direction::H2C => Access::CardReads,
        Direction::C2H => Access::CardWrites,
    }
}

/// The transfers of a program to be, in order.
///
/// A transfer becomes one descriptor for each stretch of memory that is contiguous for the card, and for each 2^28-1 bytes.
#[derive(Debug)]
pub struct Transfers {
    direction: Direction,
    segments: Vec<Segment>,
    /// The memory that they use, each once.
    memory: Vec<Arc<Handle>>,
    /// Where these are, to find them.
    known: HashSet<usize>,
    bytes: u64,
    /// Whose card's memory it is; `None` while there is none.
    space: Option<SpaceId>,
}

impl Transfers {
    /// An empty list for a direction.
    pub fn new(direction: Direction) -> Self {
        Self::with_room(direction, 0)
    }

    /// An empty list that takes so many descriptors without allocating.
    pub(super) fn with_room(direction: Direction, descriptors: usize) -> Self {
        let (segments, memory) = (Vec::with_capacity(descriptors), Vec::with_capacity(descriptors));
        let known = HashSet::with_capacity(descriptors);
        Self { direction, segments, memory, known, bytes: 0, space: None }
    }

    /// Adds a transfer between `range` of `memory`, in bytes, and card addresses from `card` on.
    ///
    /// # Errors
    ///
    /// The range is empty or leaves the memory, the memory is for the other direction or of another card than the memory before,
    /// or the card addresses overflow. The list is as before then.
    pub fn add(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<&mut Self, EngineError> {
        let (access, direction) = (memory.access(), self.direction);
        if access != access_of(direction) {
            return Err(EngineError::WrongAccess { direction, has: access });
        }
        let len = range.end.saturating_sub(range.start);
        if card.checked_add(len).is_none() {
            return Err(EngineError::CardAddress { address: card, len });
        }
        match memory.piece(range.clone()) {
            Some(piece) => self.take_space(piece.space()).map(|()| self.add_piece(&piece, card))?,
            None => self.add_pieces(memory, range, card)?,
        }
        self.bytes += len;
        Ok(self)
    }

    #[cold]
    fn add_pieces(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        mut card: u64,
    ) -> Result<(), EngineError> {
        let mut same_space = Ok(());
        memory.pieces(range, &mut |piece| {
            // All pieces of one memory are of one space, so that either all are taken or none is.
            same_space = self.take_space(piece.space());
            if same_space.is_ok() {
                self.add_piece(&piece, card);
                card = card.wrapping_add(piece.len());
            }
        })?;
        same_space
    }

    /// All memory of a list is of one card.
    #[inline]
    fn take_space(&mut self, space: SpaceId) -> Result<(), EngineError> {
        if *self.space.get_or_insert(space) == space { Ok(()) } else { Err(EngineError::ForeignMemory) }
    }

    /// Refuses a list with another card's memory.
    pub(super) fn check_space(&self, space: SpaceId) -> Result<(), EngineError> {
        if self.space.is_none_or(|known| known == space) { Ok(()) } else { Err(EngineError::ForeignMemory) }
    }

    #[inline]
    fn add_piece(&mut self, piece: &Piece<'_>, mut card: u64) {
        let handle = piece.handle();
        if !self.memory.iter().rev().take(RECENT).any(|known| Arc::ptr_eq(known, handle)) {
            self.add_memory(handle);
        }
        let (mut host, mut left) = (piece.address(), piece.len());
        while left > 0 {
            let length = left.min(MAX_LENGTH.into());
            let (source, destination) = match self.direction {
                Direction::H2C => (host, card),
                Direction::C2H => (card, host),
            };
            self.segments.push(Segment { source, destination, length: length as u32 });
            (host, card, left) = (host + length, card.wrapping_add(length), left - length);
        }
    }

    #[cold]
    fn add_memory(&mut self, handle: &Arc<Handle>) {
        if self.known.insert(Arc::as_ptr(handle).addr()) {
            self.memory.push(handle.clone());
        }
    }

    /// Descriptors so far.
    pub fn descriptors(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of each descriptor from the `first` on.
    pub fn lengths(&self, first: usize) -> impl Iterator<Item = u32> {
        self.segments.iter().skip(first).map(|segment| segment.length)
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Refuses a list in which two descriptors write the same host memory: one's data would be lost. `ranges` is room to sort
    /// them in.
    pub(super) fn check_overlap(&self, ranges: &mut Vec<(u64, u64)>) -> Result<(), EngineError> {
        if self.direction == Direction::H2C || self.segments.len() < 2 {
            return Ok(());
        }
        ranges.clear();
        ranges.extend(self.segments.iter().map(|s| (s.destination, u64::from(s.length))));
        ranges.sort_unstable();
        match ranges.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            Some(pair) => Err(EngineError::Overlap { address: pair[1].0 }),
            None => Ok(()),
        }
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn memory(&self) -> &[Arc<Handle>] {
        &self.memory
    }

    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.memory.clear();
        self.known.clear();
        (self.bytes, self.space) = (0, None);
    }
}
