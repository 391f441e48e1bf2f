//! Programs: chains built once and run again and again.

use super::submit::{Start, access_of};
use super::{EngineError, Ring};
use crate::descriptor::{Adjacency, DESCRIPTOR_BYTES, End, Flags, List, MAX_LENGTH, Segment};
use crate::memory::{Access, Allocation, Buffer, DmaMemory, DmaSpace, Piece, Runs, SpaceId};
use crate::regs::Direction;
use crate::regs::channel::WriteBack;
use std::ops::Range;
use std::sync::Arc;

/// With credits, completion is written back at least this often, so that more credits can be given in time.
const CREDIT_STRIDE: usize = 256;

/// The transfers of a program to be, in order.
///
/// A transfer becomes one descriptor for each stretch of memory that is contiguous for the card, and for each 2^28-1 bytes.
#[derive(Debug)]
pub struct Transfers {
    direction: Direction,
    segments: Vec<Segment>,
    memory: Vec<Arc<Allocation>>,
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
        Self { direction, segments, memory, bytes: 0, space: None }
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
        // Programs alternate between few allocations: those seen last are looked at first.
        if !self.memory.iter().rev().any(|m| piece.is_in(m)) {
            self.memory.push(piece.hold());
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

    pub(super) fn memory(&self) -> &[Arc<Allocation>] {
        &self.memory
    }

    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.memory.clear();
        (self.bytes, self.space) = (0, None);
    }
}

/// A prebuilt chain, which runs from its own list. Running it again writes no descriptor.
///
/// It holds the memory that its transfers use until it is dropped, and while it runs even longer.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub direction: Direction,
    pub ring: Ring,
    pub list: List,
    pub start: Start,
    pub runs: Runs,
    pub space: SpaceId,
    bytes: u64,
    /// Everything that a run uses: the transfers' memory, and the list itself.
    memory: Vec<Arc<Allocation>>,
}

impl Inner {
    /// A run ends without proof that the engine is done with it.
    pub fn condemn(&self) {
        self.memory.iter().for_each(|allocation| allocation.condemn());
    }
}

impl Program {
    pub(crate) fn build(space: &DmaSpace, transfers: &Transfers, ring: Ring) -> Result<Self, EngineError> {
        let count = transfers.segments.len();
        if count == 0 {
            return Err(EngineError::Empty);
        }
        if ring == Ring::Chain && count > WriteBack::COUNT_MASK as usize {
            // The engine counts no further, so its end would not be seen.
            return Err(EngineError::TooLarge { needed: count, ring: WriteBack::COUNT_MASK as usize });
        }
        transfers.check_space(space.id())?;
        transfers.check_overlap(&mut vec![])?;
        let mut buffer = space.allocate_unzeroed(count as u64 * DESCRIPTOR_BYTES, Access::CardReads)?;
        if !buffer.is_contiguous() {
            return Err(EngineError::ScatteredList { descriptors: count, page: buffer.page() });
        }
        let list = write_list(&mut buffer, &transfers.segments, ring);
        let mut memory = transfers.memory.clone();
        memory.push(buffer.hold());
        let start = Start { list: list.base(), first: list.base(), adjacent: list.first_adjacent() };
        let (direction, runs, bytes) = (transfers.direction, Runs::of(&memory), transfers.bytes);
        let space = space.id();
        Ok(Self { inner: Arc::new(Inner { direction, ring, list, start, runs, space, bytes, memory }) })
    }

    /// Descriptors of a run.
    pub fn descriptors(&self) -> usize {
        self.inner.list.len()
    }

    /// Bytes that a run moves.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }
}

/// Writes a program's descriptors. Kept out of its caller, where the loop takes a fifth more instructions.
#[inline(never)]
fn write_list(buffer: &mut Buffer, segments: &[Segment], ring: Ring) -> List {
    let (end, adjacency) = match ring {
        Ring::Chain => (End::Stop, Adjacency::Blocks),
        Ring::Credits => (End::Closed, Adjacency::None),
    };
    let list = List::new(buffer.address(), segments.len(), end, adjacency);
    let descriptor = |index, segment, flags| list.descriptor(index, segment, flags).to_quads();
    let all = segments.iter().enumerate();
    buffer.write_groups(0, all.map(|(index, &segment)| descriptor(index, segment, Flags::empty())));
    // The few that report completion are written again.
    let stride = match ring {
        Ring::Chain => segments.len(),
        Ring::Credits => CREDIT_STRIDE,
    };
    for index in (stride - 1..segments.len()).step_by(stride).chain([segments.len() - 1]) {
        buffer.write_groups(index, std::iter::once(descriptor(index, segments[index], Flags::COMPLETED)));
    }
    list
}
