//! Tests of the receiver against scripted metadata, for behavior that the emulated card does not have.

use super::{ReceiveError, Received, Receiver, ReceiverOptions};
use crate::bus::{Bar, BusError};
use crate::channel::tests::Fake;
use crate::channel::{ChannelOptions, Ring};
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

/// Maps a register of a C2H channel to that of the H2C channel.
fn as_h2c(offset: u64) -> u64 {
    if matches!(offset >> 12, 1 | 5) { offset - 0x1000 } else { offset }
}

/// A receiver on this fake card, on the credits ring.
struct Card {
    fake: Arc<Fake>,
    receiver: Receiver,
    /// Device address of the ring's first descriptor, and number of completed descriptors.
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
        let context = fake.context(Arc::new(Stream(fake.clone())));
        // SAFETY: nothing runs on this card.
        let receiver = unsafe { Receiver::open(context, options) }.unwrap();
        let list = u64::from(fake.get(0x4084)) << 32 | u64::from(fake.get(0x4080));
        Self { fake, receiver, list, completed: 0 }
    }

    /// Writes the metadata of the next descriptor.
    fn describe(&self, status: u32, length: u32) {
        let descriptor = self.fake.descriptor(self.list + u64::from(self.completed) % BUFFERS * 32);
        let metadata = u64::from(descriptor[3]) << 32 | u64::from(descriptor[2]);
        self.fake.write_word(metadata, status);
        self.fake.write_word(metadata + 4, length);
    }

    /// Completes the next descriptor.
    fn count(&mut self) {
        self.completed += 1;
        self.fake.write_back(self.completed & 0xff_ffff);
    }

    fn poll(&mut self) -> Result<Option<Received>, ReceiveError> {
        self.receiver.poll()
    }
}

#[test]
fn implausible_metadata_is_rejected() {
    let mut card = Card::new();
    for (status, length, accepted) in [
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
                assert!(accepted, "{status:#x} {length}");
                assert_eq!((received.len(), received.ends_packet()), (length as usize, status & 1 == 1));
                card.receiver.recycle(received).unwrap();
            }
            Err(ReceiveError::NoMetadata { status: s, length: l, .. }) => {
                assert!(!accepted && (s, l) == (status, length));
            }
            other => panic!("{status:#x} {length}: {other:?}"),
        }
    }
    // The buffers with rejected metadata are not lost.
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
fn a_buffer_is_returned_once_it_is_counted_and_not_before() {
    let mut card = Card::new();
    // Wrapping the 24-bit count would take too long; reusing the buffers is what matters here.
    for round in 0..1000u32 {
        card.describe(WHOLE, round % BYTES);
        assert!(card.poll().unwrap().is_none(), "metadata alone completes nothing");
        // Counts that lie behind, or are further ahead than the outstanding descriptors.
        for wrong in [round.wrapping_sub(1), round, round + 1 + BUFFERS as u32] {
            card.fake.write_back(wrong & 0xff_ffff);
            assert!(card.poll().unwrap().is_none(), "{wrong} in round {round}");
        }
        card.count();
        let received = card.poll().unwrap().unwrap();
        assert_eq!(received.len() as u32, round % BYTES);
        card.receiver.recycle(received).unwrap();
    }
}

#[test]
fn metadata_of_the_previous_fill_is_not_reused() {
    let mut card = Card::new();
    for _ in 0..BUFFERS {
        card.describe(WHOLE, 7);
        card.count();
        let received = card.poll().unwrap().unwrap();
        card.receiver.recycle(received).unwrap();
    }
    // An IOMMU rejected the write: the count arrives, and the metadata does not.
    card.count();
    assert!(matches!(card.poll(), Err(ReceiveError::NoMetadata { status: 0, length: 0, .. })));
}

#[test]
fn there_is_one_credit_per_posted_buffer() {
    let mut card = Card::new();
    let credits = |card: &Card| card.fake.read32(0x408c).unwrap();
    assert_eq!(credits(&card), BUFFERS as u32);
    card.describe(WHOLE, 1);
    card.count();
    let received = card.poll().unwrap().unwrap();
    assert_eq!(credits(&card), BUFFERS as u32, "a buffer that the program holds is not a credit");
    card.receiver.recycle(received).unwrap();
    assert_eq!(credits(&card), BUFFERS as u32 + 1);
    card.receiver.set_max_posted(2).unwrap();
    for _ in 0..2 {
        card.describe(WHOLE, 1);
        card.count();
        let received = card.poll().unwrap().unwrap();
        card.receiver.recycle(received).unwrap();
    }
    assert_eq!(credits(&card), BUFFERS as u32 + 1, "two are still posted");
    card.receiver.set_max_posted(usize::MAX).unwrap();
    assert_eq!(credits(&card), BUFFERS as u32 + 3);
}
