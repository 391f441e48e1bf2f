//! Lists of transfers, from which programs are built.

use super::error::InvalidTransfer;
use crate::descriptor::{MAX_LENGTH, Segment};
use crate::memory::{Access, DmaMemory, Handle, Piece, SpaceId};
use crate::regs::Direction;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Lists often alternate between a few allocations, so this many recent ones are compared before the hash set is searched.
const RECENT: usize = 4;

/// Returns the access that the card needs to the memory of transfers in `direction`.
#[inline]
pub(super) fn access_of(direction: Direction) -> Access {
    match direction {
        Direction::H2C => Access::CardReads,
        Direction::C2H => Access::CardWrites,
    }
}

/// A list of transfers, to be built into a program ([`Channel::program`](super::Channel::program)) or started as one transfer
/// ([`Channel::start`](super::Channel::start)).
///
/// A transfer becomes one descriptor for each range of memory that is contiguous for the card, and for each 2^28-1 bytes.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::{sync::Arc, time::Duration};
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Memory};
/// use xdma::channel::Transfers;
/// use xdma::regs::Direction;
///
/// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let buffer = card.allocate(4096, Direction::H2C)?;
/// let mut transfers = Transfers::new(Direction::H2C);
/// transfers.add(&buffer, 0..1024, 0x1_0000)?; // bytes 0..1024 to card address 0x10000
/// transfers.add(&buffer, 1024..4096, 0)?;
/// assert_eq!((transfers.descriptors(), transfers.bytes()), (2, 4096));
///
/// let mut channel = card.h2c(0)?;
/// let ticket = channel.start(&transfers)?;
/// channel.wait(ticket, Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transfers {
    direction: Direction,
    segments: Vec<Segment>,
    /// The allocations that the transfers use, without duplicates.
    memory: Vec<Arc<Handle>>,
    /// Addresses of their handles, for lookup.
    known: HashSet<usize>,
    bytes: u64,
    /// Address space of the card that the memory belongs to; `None` while the list is empty.
    space: Option<SpaceId>,
}

impl Transfers {
    /// Creates an empty list for a direction.
    pub fn new(direction: Direction) -> Self {
        Self::with_capacity(direction, 0)
    }

    /// Creates an empty list with space for `descriptors`.
    pub(super) fn with_capacity(direction: Direction, descriptors: usize) -> Self {
        let (segments, memory) = (Vec::with_capacity(descriptors), Vec::with_capacity(descriptors));
        let known = HashSet::with_capacity(descriptors);
        Self { direction, segments, memory, known, bytes: 0, space: None }
    }

    /// Adds a transfer between `range` of `memory`, in bytes, and card addresses from `card` on.
    ///
    /// # Errors
    ///
    /// The range is empty or outside of the memory; the memory is for the other direction, or belongs to another card than the
    /// list's other memory; the card addresses overflow. The list is then unchanged.
    pub fn add(
        &mut self,
        memory: &impl DmaMemory,
        range: Range<u64>,
        card: u64,
    ) -> Result<&mut Self, InvalidTransfer> {
        let (access, direction) = (memory.access(), self.direction);
        if access != access_of(direction) {
            return Err(InvalidTransfer::WrongAccess { direction, has: access });
        }
        let len = range.end.saturating_sub(range.start);
        if card.checked_add(len).is_none() {
            return Err(InvalidTransfer::CardAddress { address: card, len });
        }
        match memory.piece(range.clone()) {
            Some(piece) => self.claim_space(piece.space()).map(|()| self.add_piece(&piece, card))?,
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
    ) -> Result<(), InvalidTransfer> {
        let mut same_space = Ok(());
        memory.pieces(range, &mut |piece| {
            // All pieces of one memory are in one address space, so either all are added or none.
            same_space = self.claim_space(piece.space());
            if same_space.is_ok() {
                self.add_piece(&piece, card);
                card = card.wrapping_add(piece.len());
            }
        })?;
        same_space
    }

    /// Checks that all memory of the list belongs to one card.
    #[inline]
    fn claim_space(&mut self, space: SpaceId) -> Result<(), InvalidTransfer> {
        if *self.space.get_or_insert(space) == space { Ok(()) } else { Err(InvalidTransfer::ForeignMemory) }
    }

    /// Rejects a list with memory of another card.
    pub(super) fn check_space(&self, space: SpaceId) -> Result<(), InvalidTransfer> {
        if self.space.is_none_or(|known| known == space) {
            Ok(())
        } else {
            Err(InvalidTransfer::ForeignMemory)
        }
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

    /// Returns the number of descriptors.
    pub fn descriptors(&self) -> usize {
        self.segments.len()
    }

    /// Returns the length in bytes of each descriptor from `first` on.
    pub(crate) fn lengths(&self, first: usize) -> impl Iterator<Item = u32> {
        self.segments.iter().skip(first).map(|segment| segment.length)
    }

    /// Returns the total number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns an error with the device address at which two descriptors write the same host memory, where one would overwrite
    /// the other's data. `ranges` is scratch space.
    pub(super) fn check_overlap(&self, ranges: &mut Vec<(u64, u64)>) -> Result<(), u64> {
        if self.direction == Direction::H2C || self.segments.len() < 2 {
            return Ok(());
        }
        ranges.clear();
        ranges.extend(self.segments.iter().map(|s| (s.destination, u64::from(s.length))));
        ranges.sort_unstable();
        match ranges.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            Some(pair) => Err(pair[1].0),
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
