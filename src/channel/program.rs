//! Programs: chains built once and run again and again.

use super::error::EngineError;
use super::options::Ring;
use super::queue::Kept;
use super::start::Start;
use super::transfers::Transfers;
use crate::descriptor::{Adjacency, DESCRIPTOR_BYTES, End, Flags, List, Segment};
use crate::memory::{Access, DmaSpace, Handle, Quads, SpaceId};
use crate::regs::Direction;
use crate::regs::channel::WriteBack;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// With credits, completion is written back at least this often, so that more credits can be given in time.
const CREDIT_STRIDE: usize = 256;

/// A prebuilt chain, which runs from its own list. Running it again writes no descriptor.
///
/// It holds the memory that its transfers use until it is dropped, and while it runs even longer.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) run: Arc<Run>,
}

/// What a program is, and what each of its runs keeps.
#[derive(Debug)]
pub(super) struct Run {
    /// Names the program among all of this process; not 0.
    pub number: u64,
    pub kind: Kind,
    pub start: Start,
    pub descriptors: u32,
    pub bytes: u64,
    /// Everything that a run uses: the transfers' memory, and the list itself.
    memory: Vec<Arc<Handle>>,
}

/// What a program and the channels that can run it have in common, in a number that is compared at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u64);

impl Kind {
    pub fn new(space: SpaceId, direction: Direction, ring: Ring) -> Self {
        Self(space.number() << 2 | (direction as u64) << 1 | ring as u64)
    }
}

impl Kept for Run {
    fn condemn(&self) {
        self.memory.iter().for_each(|memory| memory.condemn());
    }

    fn start(&self) -> Start {
        self.start
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.memory.iter().for_each(|memory| memory.set_program(self.number, false));
    }
}

impl Program {
    pub(crate) fn build(space: &DmaSpace, transfers: &Transfers, ring: Ring) -> Result<Self, EngineError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let count = transfers.descriptors();
        let most = match ring {
            // The engine counts no further, so its end would not be seen.
            Ring::Chain => WriteBack::COUNT_MASK,
            Ring::Credits => u32::MAX,
        };
        let descriptors = match u32::try_from(count) {
            Ok(0) => return Err(EngineError::Empty),
            Ok(count) if count <= most => count,
            _ => return Err(EngineError::TooLarge { needed: count, ring: most as usize }),
        };
        transfers.check_space(space.id())?;
        transfers.check_overlap(&mut vec![])?;
        let buffer = space.allocate_unzeroed(count as u64 * DESCRIPTOR_BYTES, Access::CardReads)?;
        if !buffer.is_contiguous() {
            return Err(EngineError::ScatteredList { descriptors: count, page: buffer.page() });
        }
        let address = buffer.address();
        let mut quads = buffer.into_quads();
        let list = write_list(&mut quads, address, transfers.segments(), ring);
        let mut memory = transfers.memory().to_vec();
        memory.push(quads.handle().clone());
        let run = Run {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            kind: Kind::new(space.id(), transfers.direction(), ring),
            start: Start { list: list.base(), first: list.base(), adjacent: list.first_adjacent() },
            descriptors,
            bytes: transfers.bytes(),
            memory,
        };
        run.memory.iter().for_each(|memory| memory.set_program(run.number, true));
        Ok(Self { run: Arc::new(run) })
    }

    /// Descriptors of a run.
    pub fn descriptors(&self) -> usize {
        self.run.descriptors as usize
    }

    /// Bytes that a run moves.
    pub fn bytes(&self) -> u64 {
        self.run.bytes
    }
}

/// Writes a program's descriptors. Kept out of its caller, where the loop takes a fifth more instructions.
#[inline(never)]
fn write_list(quads: &mut Quads, address: u64, segments: &[Segment], ring: Ring) -> List {
    let (end, adjacency) = match ring {
        Ring::Chain => (End::Stop, Adjacency::Blocks),
        Ring::Credits => (End::Closed, Adjacency::None),
    };
    let list = List::new(address, segments.len(), end, adjacency);
    for (index, &segment) in segments.iter().enumerate() {
        quads.write(index, list.descriptor(index, segment, Flags::empty()).to_quads());
    }
    // The few that report completion are written again.
    let stride = match ring {
        Ring::Chain => segments.len(),
        Ring::Credits => CREDIT_STRIDE,
    };
    for index in (stride - 1..segments.len()).step_by(stride).chain([segments.len() - 1]) {
        quads.write(index, list.descriptor(index, segments[index], Flags::COMPLETED).to_quads());
    }
    list
}
