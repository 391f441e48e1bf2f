//! Channels that are closed while the card seems gone but is still running. The card must not reach other memory.

use std::thread::sleep;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardOptions};
use xdma::channel::stream::ReceiverOptions;
use xdma::channel::{Channel, ChannelOptions, CloseError, EngineError, Ring, ScopeError, Transfers};
use xdma::memory::{Buffer, MemoryError};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::faults::{FaultDuration, Kind};
use xdma_emulator::logic::Design;
use xdma_testkit::bench::{Bench, LIMIT, pattern, works};

/// Time for which the AXI side hangs.
const HANG: FaultDuration = FaultDuration::Millis(400);
/// Time for which the registers read all ones.
const GONE: FaultDuration = FaultDuration::Millis(100);
/// Time after which both faults have ended.
const BOTH: Duration = Duration::from_millis(600);

/// Short buffers share a mapping with others; long ones have their own.
const LENGTHS: [u64; 2] = [3000, 3 << 20];
const RINGS: [Ring; 2] = [Ring::Chain, Ring::Credits];

fn open(bench: &Bench) -> Card {
    bench.try_open(CardOptions { idle_limit: Duration::from_secs(2), ..CardOptions::default() }).unwrap()
}

fn channel(card: &Card, direction: Direction, ring: Ring) -> Channel {
    card.channel(direction, 0, ChannelOptions { ring: Some(ring), ..ChannelOptions::default() }).unwrap()
}

/// Fills the card's memory with data that differs from that of new buffers.
fn fill(card: &Card, len: u64) {
    let mut source = card.allocate(len, Direction::H2C).unwrap();
    source.write(0, &pattern(len as usize, 1)).unwrap();
    channel(card, Direction::H2C, Ring::Chain).transfer(&source, 0..len, 0, LIMIT).unwrap();
}

/// Makes the engine of the first channel hang within its next transfer.
fn hang(bench: &Bench, direction: Direction) {
    bench.inject(Kind::AxiHang(HANG).on(direction, 0));
}

/// Starts a C2H transfer, then makes the registers read all ones.
fn seems_gone(bench: &Bench, card: &Card, ring: Ring, len: u64) -> (Channel, Buffer) {
    fill(card, len);
    let mut c2h = channel(card, Direction::C2H, ring);
    let sink = card.allocate(len, Direction::C2H).unwrap();
    hang(bench, Direction::C2H);
    c2h.submit(&sink, 0..len, 0).unwrap();
    bench.inject(Kind::AllOnes(GONE));
    (c2h, sink)
}

/// Checks that closing quarantined at least `least` bytes.
fn is_quarantined(closed: Result<(), CloseError>, least: u64) {
    match closed {
        Err(CloseError::Quarantined { bytes, cause }) => {
            assert!(matches!(cause, EngineError::Gone { .. }), "{cause}");
            assert!(bytes >= least, "{bytes} bytes, less than {least}");
        }
        other => panic!("{other:?}"),
    }
}

/// Allocates several buffers, and checks that the running card does not write to them.
fn stays_untouched(card: &Card, len: u64) {
    let others: Vec<Buffer> = (0..8).map(|_| card.allocate(len, Direction::C2H).unwrap()).collect();
    sleep(BOTH);
    for (at, other) in others.iter().enumerate() {
        let mut seen = vec![0u8; len as usize];
        other.read(0, &mut seen).unwrap();
        assert!(seen.iter().all(|&byte| byte == 0), "buffer {at} of {len} bytes was written to");
    }
}

#[test]
fn memory_of_transfers_is_not_reused() {
    for ring in RINGS {
        for len in LENGTHS {
            let bench = Bench::memory(EmulatorOptions::default());
            let card = open(&bench);
            let (c2h, sink) = seems_gone(&bench, &card, ring, len);
            is_quarantined(c2h.close(), len);
            drop(sink);
            stays_untouched(&card, len);
            assert!(card.quarantined_bytes() >= len);
            // Opening the channel again waits until the engine is idle.
            works(&card);
        }
    }
}

#[test]
fn memory_and_descriptor_lists_of_programs_are_not_reused() {
    for ring in RINGS {
        let bench = Bench::memory(EmulatorOptions::default());
        let card = open(&bench);
        fill(&card, 4 << 20);
        let mut c2h = channel(&card, Direction::C2H, ring);
        let sink = card.allocate(4 << 20, Direction::C2H).unwrap();
        let mut transfers = Transfers::new(Direction::C2H);
        for at in 0..64u64 {
            transfers.add(&sink, at << 16..(at + 1) << 16, at << 16).unwrap();
        }
        let program = c2h.program(&transfers).unwrap();
        drop(transfers);
        hang(&bench, Direction::C2H);
        c2h.run(&program).unwrap();
        bench.inject(Kind::AllOnes(GONE));
        drop(c2h);
        drop((program, sink));
        // If the descriptor list were reused, the engine would fetch these invalid descriptors.
        let mut lists: Vec<_> = (0..8).map(|_| card.allocate(64 * 32, Direction::H2C).unwrap()).collect();
        lists.iter_mut().for_each(|list| list.write(0, &[0xffu8; 64 * 32]).unwrap());
        stays_untouched(&card, 4 << 20);
        works(&card);
    }
}

#[test]
fn a_buffer_that_the_card_may_still_read_cannot_be_written() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = open(&bench);
    let mut h2c = channel(&card, Direction::H2C, Ring::Chain);
    let mut source = card.allocate(1 << 20, Direction::H2C).unwrap();
    hang(&bench, Direction::H2C);
    h2c.submit(&source, 0..1 << 20, 0).unwrap();
    bench.inject(Kind::AllOnes(GONE));
    drop(h2c);
    assert!(matches!(source.write(0, &[1u8]), Err(MemoryError::Quarantined)));
    assert!(matches!(source.as_mut_slice::<u8>(), Err(MemoryError::Quarantined)));
    sleep(BOTH);
    works(&card);
}

#[test]
fn quarantined_vectors_are_not_returned_to_their_owner() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = open(&bench);
    fill(&card, 1 << 20);
    let mut c2h = channel(&card, Direction::C2H, Ring::Chain);
    let sink = card.register(vec![7u8; 1 << 20], Direction::C2H).unwrap();
    hang(&bench, Direction::C2H);
    c2h.submit(&sink, 0..1 << 20, 0).unwrap();
    bench.inject(Kind::AllOnes(GONE));
    drop(c2h);
    let (sink, error) = sink.into_inner().unwrap_err();
    assert!(matches!(error, MemoryError::Quarantined), "{error}");
    drop(sink);
    let others: Vec<_> = (0..4).map(|_| vec![7u8; 1 << 20]).collect();
    sleep(BOTH);
    assert!(others.iter().flatten().all(|&byte| byte == 7), "the card wrote to a vector that it never used");
    works(&card);
}

/// The slice is unmapped from the IOMMU, or was staged and never mapped.
#[test]
fn a_scope_ends_with_an_error_and_the_card_cannot_reach_the_slice_afterwards() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = open(&bench);
    fill(&card, 1 << 20);
    let mut c2h = channel(&card, Direction::C2H, Ring::Chain);
    let mut slice = vec![7u8; 1 << 20];
    let ended = c2h.scope(Duration::from_millis(20), |scope| -> Result<(), Box<dyn std::error::Error>> {
        let borrowed = scope.borrow_mut(&mut slice)?;
        hang(&bench, Direction::C2H);
        scope.submit(&*borrowed, 0..1 << 20, 0)?;
        bench.inject(Kind::AllOnes(GONE));
        Ok(())
    });
    let error = ended.unwrap_err();
    let Some(ScopeError::Wait(failed)) = error.downcast_ref() else { panic!("{error:?}") };
    assert!(matches!(failed.engine(), Some(EngineError::Gone { .. })), "{failed}");
    let before = slice.clone();
    sleep(BOTH);
    assert!(slice == before, "the card wrote to a slice after the end of its scope");
    c2h.recover().unwrap();
    drop(c2h);
    works(&card);
}

#[test]
fn a_card_that_seems_gone_when_it_is_closed_can_be_opened_again() {
    for ring in RINGS {
        let bench = Bench::memory(EmulatorOptions::default());
        let card = open(&bench);
        let (c2h, sink) = seems_gone(&bench, &card, ring, 1 << 20);
        drop((c2h, sink, card));
        sleep(BOTH);
        works(&open(&bench));
    }
}

#[test]
fn buffers_of_a_receiver_that_is_closed_on_a_card_that_seems_gone_are_not_reused() {
    for ring in RINGS {
        let bench = Bench::new(EmulatorOptions::default().with_streams(), Design::Loopback);
        let card = open(&bench);
        let mut sender = card.stream_h2c(0, ChannelOptions::default()).unwrap();
        let channel = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let buffers = ReceiverOptions { channel, buffers: 4, bytes: 4096, ..ReceiverOptions::default() };
        let receiver = card.stream_c2h(0, buffers).unwrap();
        bench.inject(Kind::AllOnes(GONE));
        is_quarantined(receiver.close(), 4 * 4096);
        let others: Vec<_> = (0..8).map(|_| card.allocate(4096, Direction::C2H).unwrap()).collect();
        sleep(Duration::from_millis(150));
        let mut packet = card.allocate(4096, Direction::H2C).unwrap();
        packet.write(0, &[9u8; 4096]).unwrap();
        let ticket = sender.send(&packet, 0..4096).unwrap();
        sender.wait(ticket, LIMIT).unwrap();
        sleep(Duration::from_millis(50));
        for other in &others {
            let mut seen = [0u8; 4096];
            other.read(0, &mut seen).unwrap();
            assert_eq!(seen, [0; 4096], "{ring}");
        }
    }
}

/// A recovery of the card must not write address registers that a running channel may be writing: a partly written address could
/// point anywhere.
#[test]
fn a_card_that_is_recovered_during_transfers_reaches_no_other_memory() {
    for ring in RINGS {
        let bench = Bench::memory(EmulatorOptions::default());
        let card = open(&bench);
        let mut c2h = channel(&card, Direction::C2H, ring);
        let sink = card.allocate(4096, Direction::C2H).unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            scope.spawn(|| while Instant::now() < end && card.recover().is_ok() {});
            while Instant::now() < end {
                if c2h.transfer(&sink, 0..64, 0, Duration::from_millis(2)).is_err() {
                    // This fails if the other thread has stopped the channel again.
                    let _ = c2h.recover();
                }
            }
        });
        let faults = bench.log().dma_faults;
        assert!(faults.is_empty(), "{ring}: {faults:x?}");
        c2h.recover().unwrap();
        drop(c2h);
        works(&card);
    }
}
