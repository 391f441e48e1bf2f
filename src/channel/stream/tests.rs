//! The receiver against a card that writes what a test says: what no emulated card should have to do.

use super::{Received, Receiver, ReceiverOptions};
use crate::bus::{Bar, BusError};
use crate::channel::tests::Fake;
use crate::channel::{ChannelOptions, EngineError, Ring};
use crate::regs::{Identifier, Target};
use std::sync::Arc;

const BYTES: u32 = 128;
const BUFFERS: u64 = 4;
const WHOLE: u32 = 0x52b4_0001;

/// The fake's registers as those of a C2H stream channel.
#[derive(Debug)]
struct Stream(Arc<Fake>);

// SAFETY: nothing is mapped.
unsafe impl Bar for Stream {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        match offset {
            0x1000 => Ok(Identifier::new(Target::C2H, 0, true).0),
            _ => self.0.read32(as_h2c(offset)),
        }
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        self.0.write32(as_h2c(offset), value)
    }
}

/// The address of a C2H channel's register at the H2C channel.
fn as_h2c(offset: u64) -> u64 {
    if matches!(offset >> 12, 1 | 5) { offset - 0x1000 } else { offset }
}

/// A receiver on such a card, over the credits ring.
struct Card {
    fake: Arc<Fake>,
    receiver: Receiver,
    /// The ring's first descriptor, and how many were completed.
    list: u64,
    completed: u32,
}

impl Card {
    fn new() -> Self {
        let fake = Arc::new(Fake::default());
        let channel = ChannelOptions { ring: Some(Ring::Credits), ..ChannelOptions::default() };
        let options = ReceiverOptions {
            channel,
            buffers: BUFFERS as usize,
            bytes: BYTES,
            ..ReceiverOptions::default()
        };
        let place = fake.place(Arc::new(Stream(fake.clone())));
        // SAFETY: nothing runs on this card.
        let receiver = unsafe { Receiver::open(place, options) }.unwrap();
        let list = u64::from(fake.get(0x4084)) << 32 | u64::from(fake.get(0x4080));
        Self { fake, receiver, list, completed: 0 }
    }

    /// Writes the next descriptor's metadata.
    fn describe(&self, status: u32, length: u32) {
        let descriptor = self.fake.descriptor(self.list + u64::from(self.completed) % BUFFERS * 32);
        let metadata = u64::from(descriptor[3]) << 32 | u64::from(descriptor[2]);
        self.fake.write_word(metadata, status);
        self.fake.write_word(metadata + 4, length);
    }

    /// Counts the next descriptor.
    fn count(&mut self) {
        self.completed += 1;
        self.fake.write_back(self.completed & 0xff_ffff);
    }

    fn poll(&mut self) -> Result<Option<Received>, EngineError> {
        self.receiver.poll()
    }
}

#[test]
fn metadata_is_believed_only_if_it_can_be_true() {
    let mut card = Card::new();
    for (status, length, believed) in [
        (WHOLE, BYTES, true),
        (WHOLE - 1, 0, true),
        (WHOLE, BYTES + 1, false),
        (WHOLE, u32::MAX, false),
        (0, 0, false),
        (1, 5, false),
        (0xffff_ffff, 5, false),
        (0x52b5_0001, 5, false),
    ] {
        card.describe(status, length);
        card.count();
        match card.poll() {
            Ok(Some(received)) => {
                assert!(believed, "{status:#x} {length}");
                assert_eq!((received.len(), received.ends_packet()), (length as usize, status & 1 == 1));
                card.receiver.give_back(received).unwrap();
            }
            Err(EngineError::NoMetadata { status: s, length: l, .. }) => {
                assert!(!believed && (s, l) == (status, length));
            }
            other => panic!("{status:#x} {length}: {other:?}"),
        }
    }
    // The buffers of those that were not are not lost.
    let held: Vec<_> = (0..BUFFERS)
        .map(|_| {
            card.describe(WHOLE, 1);
            card.count();
            card.poll().unwrap().unwrap()
        })
        .collect();
    assert_eq!(held.len() as u64, BUFFERS);
    assert!(card.poll().unwrap().is_none());
}

#[test]
fn a_buffer_is_handed_out_when_it_is_counted_and_not_before() {
    let mut card = Card::new();
    // More often than the count has bits for would take too long; more often than there are buffers is what matters here.
    for round in 0..1000u32 {
        card.describe(WHOLE, round % BYTES);
        assert!(card.poll().unwrap().is_none(), "metadata alone says nothing");
        // Counts that lie behind, or further ahead than what is outstanding.
        for wrong in [round.wrapping_sub(1), round, round + 1 + BUFFERS as u32] {
            card.fake.write_back(wrong & 0xff_ffff);
            assert!(card.poll().unwrap().is_none(), "{wrong} in round {round}");
        }
        card.count();
        let received = card.poll().unwrap().unwrap();
        assert_eq!(received.len() as u32, round % BYTES);
        card.receiver.give_back(received).unwrap();
    }
}

#[test]
fn metadata_of_the_filling_before_is_gone() {
    let mut card = Card::new();
    for _ in 0..BUFFERS {
        card.describe(WHOLE, 7);
        card.count();
        let received = card.poll().unwrap().unwrap();
        card.receiver.give_back(received).unwrap();
    }
    // An IOMMU that refuses the write: the count comes, and the metadata does not.
    card.count();
    assert!(matches!(card.poll(), Err(EngineError::NoMetadata { status: 0, length: 0, .. })));
}

#[test]
fn credits_are_as_many_as_the_engine_has_buffers() {
    let mut card = Card::new();
    let given = |card: &Card| card.fake.read32(0x408c).unwrap();
    assert_eq!(given(&card), BUFFERS as u32);
    card.describe(WHOLE, 1);
    card.count();
    let received = card.poll().unwrap().unwrap();
    assert_eq!(given(&card), BUFFERS as u32, "a buffer that is held is no credit");
    card.receiver.give_back(received).unwrap();
    assert_eq!(given(&card), BUFFERS as u32 + 1);
    card.receiver.set_ahead(2).unwrap();
    for _ in 0..2 {
        card.describe(WHOLE, 1);
        card.count();
        let received = card.poll().unwrap().unwrap();
        card.receiver.give_back(received).unwrap();
    }
    assert_eq!(given(&card), BUFFERS as u32 + 1, "it still has two");
    card.receiver.set_ahead(usize::MAX).unwrap();
    assert_eq!(given(&card), BUFFERS as u32 + 3);
}
