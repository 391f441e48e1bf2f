//! Programs: chains of descriptors that are built once and run any number of times.

use super::error::ProgramError;
use super::options::Ring;
use super::queue::Pinned;
use super::start::Start;
use super::transfers::Transfers;
use crate::descriptor::{Adjacency, DESCRIPTOR_BYTES, End, Flags, List, Segment};
use crate::memory::{Access, DescriptorMemory, DmaSpace, Handle, SpaceId};
use crate::regs::Direction;
use crate::regs::channel::WriteBack;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// On the credits ring, completion is written back at least this often, so that more credits can be posted in time.
const CREDIT_STRIDE: usize = 256;

/// A prebuilt chain with its own descriptor list. Running it again writes no descriptors.
///
/// It holds the memory of its transfers until it is dropped, and as long as a run is in flight.
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
/// let mut channel = card.h2c(0)?;
/// let buffer = card.allocate(8192, Direction::H2C)?;
/// let mut transfers = Transfers::new(Direction::H2C);
/// transfers.add(&buffer, 0..4096, 0x1000)?.add(&buffer, 4096..8192, 0x8000)?;
/// let program = channel.program(&transfers)?; // built once
///
/// for _ in 0..3 {
///     let ticket = channel.run(&program)?; // one doorbell for both transfers
///     channel.wait(ticket, Duration::from_secs(5))?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) data: Arc<ProgramData>,
}

/// The data of a program, which each of its runs pins.
#[derive(Debug)]
pub(super) struct ProgramData {
    /// Unique among the programs of this process; not 0.
    pub number: u64,
    pub kind: Kind,
    pub start: Start,
    pub descriptors: u64,
    pub bytes: u64,
    /// Everything that a run uses: the memory of the transfers, and the list.
    memory: Vec<Arc<Handle>>,
}

/// Card, direction and ring of a program, packed into a number so that one comparison tells whether a channel can run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u64);

impl Kind {
    pub fn new(space: SpaceId, direction: Direction, ring: Ring) -> Self {
        Self(space.number() << 2 | (direction as u64) << 1 | ring as u64)
    }
}

impl Pinned for ProgramData {
    fn quarantine(&self) {
        self.memory.iter().for_each(|memory| memory.quarantine());
    }

    fn list(&self) -> Option<u64> {
        Some(self.start.list)
    }
}

impl Drop for ProgramData {
    fn drop(&mut self) {
        self.memory.iter().for_each(|memory| memory.set_program(self.number, false));
    }
}

impl Program {
    pub(crate) fn build(
        space: &DmaSpace,
        transfers: &Transfers,
        ring: Ring,
        is_packet: bool,
    ) -> Result<Self, ProgramError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let count = transfers.descriptors();
        let most = match ring {
            // The engine's count has no more bits, so the end of a longer list would not be detected.
            Ring::Chain => WriteBack::COUNT_MASK,
            Ring::Credits => u32::MAX,
        };
        let descriptors = match u32::try_from(count) {
            Ok(0) => return Err(ProgramError::Empty),
            Ok(count) if count <= most => u64::from(count),
            _ => return Err(ProgramError::TooLarge { needed: count, most: most as usize }),
        };
        transfers.check_space(space.id())?;
        transfers.check_overlap(&mut vec![]).map_err(|address| ProgramError::Overlap { address })?;
        let buffer = space.allocate_unzeroed(count as u64 * DESCRIPTOR_BYTES, Access::CardReads)?;
        if !buffer.is_contiguous() {
            return Err(ProgramError::ScatteredList { descriptors: count, page: buffer.page() });
        }
        let address = buffer.address();
        let mut list_memory = buffer.into_descriptor_memory();
        let last = if is_packet { Flags::EOP } else { Flags::empty() };
        let list = write_list(&mut list_memory, address, transfers.segments(), ring, last);
        let mut memory = transfers.memory().to_vec();
        memory.push(list_memory.handle().clone());
        let data = ProgramData {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            kind: Kind::new(space.id(), transfers.direction(), ring),
            start: Start { list: list.base(), first: list.base(), adjacent: list.first_adjacent() },
            descriptors,
            bytes: transfers.bytes(),
            memory,
        };
        data.memory.iter().for_each(|memory| memory.set_program(data.number, true));
        Ok(Self { data: Arc::new(data) })
    }

    /// Returns the number of descriptors per run.
    pub fn descriptors(&self) -> usize {
        self.data.descriptors as usize
    }

    /// Returns the number of bytes that a run moves.
    pub fn bytes(&self) -> u64 {
        self.data.bytes
    }
}

/// Writes a program's descriptors. Not inlined: in its caller, the loop takes a fifth more instructions.
#[inline(never)]
fn write_list(
    list_memory: &mut DescriptorMemory,
    address: u64,
    segments: &[Segment],
    ring: Ring,
    last: Flags,
) -> List {
    let (end, adjacency) = match ring {
        Ring::Chain => (End::Stop, Adjacency::Blocks),
        Ring::Credits => (End::Closed, Adjacency::None),
    };
    let list = List::new(address, segments.len(), end, adjacency);
    for (index, &segment) in segments.iter().enumerate() {
        list_memory.write(index, list.descriptor(index, segment, Flags::empty()).to_quads());
    }
    // Rewrite the few descriptors that request a completion.
    let stride = match ring {
        Ring::Chain => segments.len(),
        Ring::Credits => CREDIT_STRIDE,
    };
    let end = segments.len() - 1;
    for index in (stride - 1..end).step_by(stride) {
        list_memory.write(index, list.descriptor(index, segments[index], Flags::COMPLETED).to_quads());
    }
    list_memory.write(end, list.descriptor(end, segments[end], Flags::COMPLETED | last).to_quads());
    list
}
