//! What holds of every ring and program: their lists, walked as the engine walks them.

use super::ring::Slots;
use super::tests::Fake;
use super::*;
use crate::descriptor::{DESCRIPTOR_BYTES, Descriptor, Flags, Segment};
use crate::memory::{Access, DmaMemory, DmaSpace, HugePages, MemoryError};
use crate::regs::Direction;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

const PAGE: u64 = 4096;

fn space() -> (Arc<Fake>, DmaSpace) {
    let fake = Arc::new(Fake::default());
    (fake.clone(), DmaSpace::new(fake, HugePages::Prefer, None, None))
}

fn segment(descriptor: &Descriptor) -> Segment {
    let Descriptor { source, destination, length, .. } = *descriptor;
    Segment { source, destination, length }
}

proptest! {
    #[test]
    fn slots_hold_what_is_in_flight_and_nothing_else(steps in vec((any::<bool>(), 1..6u64), 1..60)) {
        const SLOTS: u64 = 8;
        let (fake, space) = space();
        let mut slots = Slots::new(&space, SLOTS as usize).unwrap();
        let mut buffer = space.allocate(64, Access::CardReads).unwrap();
        let (base, mut filled, mut emptied) = (slots.list().base(), 0u64, 0u64);
        for (fill, count) in steps {
            if fill {
                for _ in 0..count.min(slots.free() as u64) {
                    let at = base + filled % SLOTS * DESCRIPTOR_BYTES;
                    prop_assert_eq!(slots.tail(), at);
                    let wanted = Segment { source: buffer.address(), destination: filled, length: 1 };
                    slots.push(wanted, Flags::COMPLETED, buffer.piece(0..64).unwrap().keep());
                    filled += 1;
                    let seen = Descriptor::from_words(fake.descriptor(at)).unwrap();
                    prop_assert_eq!(segment(&seen), wanted);
                    // The ring is closed, wherever in it one is.
                    prop_assert_eq!((seen.next, seen.next_adjacent), (base + filled % SLOTS * DESCRIPTOR_BYTES, 0));
                }
            } else {
                let count = count.min(filled - emptied);
                slots.release(count as usize);
                emptied += count;
            }
            let used = filled - emptied;
            prop_assert_eq!(slots.free() as u64, SLOTS - used);
            match buffer.write(0, &[0u8]) {
                Ok(()) => prop_assert_eq!(used, 0),
                Err(MemoryError::InFlight(count)) => prop_assert_eq!(u64::from(count), used),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
    }

    #[test]
    fn a_program_is_its_transfers_in_order(
        moves in vec((0..10_000u64, 1..10_000u64, 0..1_000_000u64), 1..200),
        credits in any::<bool>(),
    ) {
        let (fake, space) = space();
        let buffer = space.allocate(20_000, Access::CardReads).unwrap();
        let mut transfers = Transfers::new(Direction::H2C);
        let mut wanted = vec![];
        for &(at, len, card) in &moves {
            transfers.add(&buffer, at..at + len, card).unwrap();
            wanted.push(Segment { source: buffer.address() + at, destination: card, length: len as u32 });
        }
        let ring = if credits { Ring::Credits } else { Ring::Chain };
        let program = Program::build(&space, &transfers, ring).unwrap();
        prop_assert_eq!(program.bytes(), moves.iter().map(|each| each.1).sum::<u64>());
        let (mut at, mut adjacent) = (program.inner.start.first, u64::from(program.inner.start.adjacent));
        for (number, wanted) in wanted.iter().enumerate() {
            let last = number + 1 == moves.len();
            // A request for the whole block stays in its page.
            prop_assert!(at % PAGE + (adjacent + 1) * DESCRIPTOR_BYTES <= PAGE);
            let seen = Descriptor::from_words(fake.descriptor(at)).unwrap();
            prop_assert_eq!(segment(&seen), *wanted);
            prop_assert_eq!(seen.flags.contains(Flags::STOP), last && ring == Ring::Chain);
            prop_assert!(!last || seen.flags.contains(Flags::COMPLETED));
            if adjacent > 0 {
                prop_assert_eq!(seen.next, at + DESCRIPTOR_BYTES);
            }
            (at, adjacent) = (seen.next, u64::from(seen.next_adjacent));
        }
        if credits {
            prop_assert_eq!(at, program.inner.start.first, "the list is closed");
        }
    }
}
