//! Property tests of rings and programs: their lists, walked as an engine walks them.

use super::slots::Slots;
use super::tests::Fake;
use super::*;
use crate::descriptor::{DESCRIPTOR_BYTES, Descriptor, Flags, Segment};
use crate::memory::{Access, DmaSpace, HugePages, MemoryError, Pieces};
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
    fn slots_pin_exactly_the_memory_in_flight(steps in vec((any::<bool>(), any::<bool>(), 1..6u64), 1..60)) {
        const SLOTS: u64 = 8;
        let (fake, space) = space();
        let mut slots = Slots::new(&space, SLOTS as usize, Direction::H2C, false).unwrap();
        slots.set_end(Flags::COMPLETED);
        let mut buffer = space.allocate(64, Access::CardReads).unwrap();
        let base = slots.base();
        // Jobs in order: the slots of each, and the pin of a single transfer.
        let mut jobs = std::collections::VecDeque::new();
        let mut filled = 0u64;
        for (fill, single, count) in steps {
            if fill {
                let count = if single { 1 } else { count }.min(slots.free() as u64);
                let pin = || buffer.piece(0..64).unwrap().handle().pin();
                for part in 0..count {
                    let at = base + filled % SLOTS * DESCRIPTOR_BYTES;
                    prop_assert_eq!(slots.next().first, at);
                    let wanted = Segment { source: buffer.address(), destination: filled, length: 1 };
                    let is_last = single || part + 1 == count;
                    match single {
                        true => slots.push(wanted.source, wanted.destination, wanted.length),
                        false => slots.push_part(wanted, is_last, pin()),
                    }
                    filled += 1;
                    let seen = Descriptor::from_words(fake.descriptor(at)).unwrap();
                    prop_assert_eq!(segment(&seen), wanted);
                    prop_assert_eq!(seen.flags, if is_last { Flags::COMPLETED } else { Flags::empty() });
                    // The ring is closed at every position.
                    prop_assert_eq!((seen.next, seen.next_adjacent), (base + filled % SLOTS * DESCRIPTOR_BYTES, 0));
                }
                if count > 0 {
                    jobs.push_back((count, single.then(pin)));
                }
            } else {
                match jobs.pop_front() {
                    Some((_, Some(pin))) => {
                        slots.release(1);
                        drop(pin);
                    }
                    Some((count, None)) => {
                        slots.release(count as u32);
                        slots.drop_pins(count as u32);
                    }
                    None => {}
                }
            }
            let used: u64 = jobs.iter().map(|job| job.0).sum();
            prop_assert_eq!(slots.free() as u64, SLOTS - used);
            match buffer.write(0, &[0u8]) {
                Ok(()) => prop_assert_eq!(used, 0),
                Err(MemoryError::InFlight(count)) => prop_assert_eq!(count as u64, used),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
    }

    #[test]
    fn a_program_has_its_transfers_in_order(
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
        let program = Program::build(&space, &transfers, ring, false).unwrap();
        prop_assert_eq!(program.bytes(), moves.iter().map(|each| each.1).sum::<u64>());
        let (mut at, mut adjacent) = (program.data.start.first, u64::from(program.data.start.adjacent));
        for (number, wanted) in wanted.iter().enumerate() {
            let last = number + 1 == moves.len();
            // A fetch of the whole block stays in its page.
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
            prop_assert_eq!(at, program.data.start.first, "the list is closed");
        }
    }
}
