//! AXI-Stream channels around the loopback: packets there and back.

use std::thread;
use std::time::Duration;
use xdma::card::{Card, CardError};
use xdma::channel::stream::{Discard, Discarded, Receiver, ReceiverOptions, Sender};
use xdma::channel::{ChannelOptions, EngineError, Ring, Wait};
use xdma::memory::MemoryError;
use xdma::regs::Direction;
use xdma_emulator::faults::{Kind, Lasting};
use xdma_emulator::logic::{Design, Loopback};
use xdma_emulator::{Options, Switches};
use xdma_testkit::bench::{Bench, LIMIT, pattern};

const RINGS: [Ring; 2] = [Ring::Chain, Ring::Credits];
/// Long enough for something that should not come.
const A_WHILE: Duration = Duration::from_millis(30);

/// A card whose engines can be stopped while they wait for the stream.
fn bench(options: Options) -> Bench {
    let switches = Switches { stop_ends_idle_stream: true, ..options.switches };
    Bench::new(Options { stream: true, switches, ..options }, Design::Loopback)
}

fn options(ring: Ring, buffers: usize, bytes: u32) -> ReceiverOptions {
    let channel = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
    ReceiverOptions { channel, buffers, bytes, ..ReceiverOptions::default() }
}

fn pair(card: &Card, options: ReceiverOptions) -> (Sender, Receiver) {
    (card.stream_h2c(0, options.channel).unwrap(), card.stream_c2h(0, options).unwrap())
}

/// Sends a packet and waits until the stream took it.
fn send(card: &Card, sender: &mut Sender, data: &[u8]) -> Result<(), EngineError> {
    let mut buffer = card.allocate(data.len() as u64, Direction::H2C)?;
    buffer.write(0, data)?;
    let ticket = sender.send(&buffer, 0..data.len() as u64)?;
    sender.wait(ticket, LIMIT)
}

/// Receives a packet, and in how many buffers it came.
fn receive(receiver: &mut Receiver) -> Result<(Vec<u8>, usize), EngineError> {
    let mut packet = vec![];
    for count in 1.. {
        let received = receiver.wait(LIMIT)?;
        let start = packet.len();
        packet.resize(start + received.len(), 0);
        receiver.read(&received, 0, &mut packet[start..])?;
        let ends = received.ends_packet();
        receiver.give_back(received)?;
        if ends {
            return Ok((packet, count));
        }
    }
    unreachable!("packets end")
}

/// Sizes from one byte to several buffers, the interesting ones first.
fn sizes(bytes: u32, seed: u64) -> impl Iterator<Item = usize> {
    let bytes = bytes as usize;
    let random: Vec<_> = pattern(400, seed)
        .chunks(2)
        .map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])) % (3 * bytes) + 1)
        .collect();
    [1, 63, 64, 65, bytes - 1, bytes, bytes + 1, 2 * bytes, 5 * bytes + 3].into_iter().chain(random)
}

#[test]
fn packets_of_any_size_come_back_as_they_were_sent() {
    for ring in RINGS {
        for seed in 1..=3 {
            let bench = bench(Options { seed, ..Options::default() });
            let card = bench.open();
            let (buffers, bytes) = [(1, 64), (3, 512), (200, 256)][seed as usize % 3];
            let (mut sender, mut receiver) = pair(&card, options(ring, buffers, bytes));
            thread::scope(|scope| {
                let card = &card;
                scope.spawn(move || {
                    for (number, size) in sizes(bytes, seed).enumerate() {
                        send(card, &mut sender, &pattern(size, number as u64)).unwrap();
                    }
                });
                let mut all = 0;
                for (number, size) in sizes(bytes, seed).enumerate() {
                    let (packet, count) = receive(&mut receiver).unwrap();
                    assert!(packet == pattern(size, number as u64), "{ring} packet {number} of {size}");
                    assert_eq!(count, size.div_ceil(bytes as usize), "{ring} packet of {size}");
                    all += size as u64;
                }
                assert_eq!(receiver.channel().stats().bytes, all);
                assert!(receiver.poll().unwrap().is_none());
            });
        }
    }
}

#[test]
fn a_packet_may_be_sent_in_parts() {
    for ring in RINGS {
        let bench = bench(Options::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 4096));
        let data = pattern(3000, 7);
        let mut buffer = card.allocate(3000, Direction::H2C).unwrap();
        buffer.write(0, &data).unwrap();
        sender.send_part(&buffer, 0..1024).unwrap();
        let part = sender.send_part(&buffer, 1024..2048).unwrap();
        sender.wait(part, LIMIT).unwrap();
        assert!(receiver.poll().unwrap().is_none(), "the packet has no end yet");
        let whole = sender.send(&buffer, 2048..3000).unwrap();
        sender.wait(whole, LIMIT).unwrap();
        assert!(receive(&mut receiver).unwrap() == (data, 1), "{ring}");
    }
}

#[test]
fn a_slow_receiver_holds_the_stream_back_and_loses_nothing() {
    for ring in RINGS {
        let bench = bench(Options::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 4096));
        // More than the card's FIFO and all buffers.
        let len = Loopback::DEFAULT_DEPTH as u64 + 8 * 4096;
        let data = pattern(len as usize, 3);
        let mut buffer = card.allocate(len, Direction::H2C).unwrap();
        buffer.write(0, &data).unwrap();
        let ticket = sender.send(&buffer, 0..len).unwrap();
        let mut held: Vec<_> = (0..4).map(|_| receiver.wait(LIMIT).unwrap()).collect();
        assert!(matches!(receiver.wait(LIMIT), Err(EngineError::NoBuffers)), "all are held");
        let stats = receiver.channel().stats();
        assert_eq!((stats.starved, stats.stalls()), (1, 1), "once until it gets one again");
        assert!(receiver.poll().unwrap().is_none());
        assert!(matches!(sender.wait(ticket, A_WHILE), Err(EngineError::Deadline { .. })), "{ring}");
        // What is held stays what it is.
        let mut seen = vec![];
        for part in held.drain(..) {
            let mut bytes = vec![0; part.len()];
            receiver.read(&part, 0, &mut bytes).unwrap();
            seen.extend(bytes);
            assert!(!part.ends_packet());
            receiver.give_back(part).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        seen.extend(receive(&mut receiver).unwrap().0);
        assert!(seen == data, "{ring}");
        sender.wait(ticket, LIMIT).unwrap();
        // With buffers to spare it is not held back.
        let before = receiver.channel().stats().starved;
        sender.send(&buffer, 0..1000).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == data[..1000]);
        assert_eq!(receiver.channel().stats().starved, before);
    }
}

#[test]
fn buffers_come_back_in_any_order_and_to_their_own_receiver() {
    let bench = bench(Options::default());
    let card = bench.open();
    let (mut sender, mut receiver) = pair(&card, options(Ring::Credits, 8, 256));
    let mut other = card.stream_c2h(1, options(Ring::Credits, 8, 256)).unwrap();
    for round in 0..40u64 {
        let mut held = vec![];
        for packet in 0..4 {
            send(&card, &mut sender, &pattern(100, round * 4 + packet)).unwrap();
            held.push((packet, receiver.wait(LIMIT).unwrap()));
        }
        while !held.is_empty() {
            let (packet, received) = held.remove((round as usize + held.len()) % held.len());
            let mut bytes = [0; 100];
            receiver.read(&received, 0, &mut bytes[..60]).unwrap();
            receiver.read(&received, 60, &mut bytes[60..]).unwrap();
            assert!(bytes[..] == pattern(100, round * 4 + packet));
            let beyond = receiver.read(&received, 1, &mut bytes).unwrap_err();
            assert!(
                matches!(beyond, EngineError::Memory(ref e) if matches!(**e, MemoryError::OutOfRange { .. }))
            );
            assert!(matches!(other.read(&received, 0, &mut bytes), Err(EngineError::ForeignTicket)));
            receiver.give_back(received).unwrap();
        }
    }
    send(&card, &mut sender, &[1]).unwrap();
    let received = receiver.wait(LIMIT).unwrap();
    assert!(matches!(other.give_back(received), Err(EngineError::ForeignTicket)));
}

#[test]
fn each_way_of_waiting_receives() {
    let bench = bench(Options::default());
    let card = bench.open();
    for wait in Wait::ALL {
        for ring in RINGS {
            let mut options = options(ring, 4, 256);
            options.channel.wait = wait;
            let (mut sender, mut receiver) = pair(&card, options);
            let error = receiver.wait(A_WHILE).unwrap_err();
            let EngineError::Deadline { snapshot, .. } = &error else { panic!("{wait} {error}") };
            assert!(snapshot.to_string().contains("C2H channel 0: busy"), "{snapshot}");
            for number in 0..20 {
                let data = pattern(300, number);
                send(&card, &mut sender, &data).unwrap();
                assert!(receive(&mut receiver).unwrap() == (data, 2), "{wait} {ring}");
            }
        }
    }
}

#[test]
fn what_arrived_before_a_failure_is_there_and_the_rest_comes_after_recovery() {
    for ring in RINGS {
        let bench = bench(Options::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        // The third buffer finds the logic refusing.
        bench.inject(Kind::AxiSlaveError.on(Direction::C2H, 0).after(2));
        for number in 0..6 {
            send(&card, &mut sender, &pattern(200, number)).unwrap();
        }
        let mut number = 0;
        let error = loop {
            match receive(&mut receiver) {
                Ok((packet, _)) => assert!(packet == pattern(200, number), "{ring} {number}"),
                Err(error) => break error,
            }
            number += 1;
        };
        assert!(matches!(error, EngineError::Failed { .. }), "{error}");
        assert!(error.to_string().contains("C2H channel 0"), "{error}");
        // It goes on saying so.
        assert!(matches!(receiver.poll(), Err(EngineError::Failed { .. })));
        assert!(matches!(receiver.wait(LIMIT), Err(EngineError::Failed { .. })));
        receiver.recover().unwrap();
        for number in number..6 {
            assert!(receive(&mut receiver).unwrap().0 == pattern(200, number), "{ring} {number}");
        }
    }
}

#[test]
fn a_sender_fails_and_recovers() {
    for ring in RINGS {
        let bench = bench(Options::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        bench.inject(Kind::BadMagic.on(Direction::H2C, 0));
        let error = send(&card, &mut sender, &[1; 100]).unwrap_err();
        assert!(matches!(error, EngineError::Failed { .. }), "{error}");
        assert!(matches!(send(&card, &mut sender, &[2; 100]), Err(EngineError::Failed { .. })));
        sender.recover().unwrap();
        send(&card, &mut sender, &[3; 100]).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == [3; 100]);
        sender.stop().unwrap();
        sender.recover().unwrap();
        sender.close().unwrap();
    }
}

/// The count comes before the data: there is no metadata then, and that of the filling before is not taken for it.
#[test]
fn stale_metadata_is_not_taken_for_new() {
    let bench = bench(Options::default());
    let card = bench.open();
    let (mut sender, mut receiver) = pair(&card, options(Ring::Credits, 1, 256));
    for number in 0..3 {
        send(&card, &mut sender, &pattern(200, number)).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == pattern(200, number));
    }
    receiver.set_ahead(0).unwrap();
    // The engine has one buffer, for this.
    send(&card, &mut sender, &[0; 200]).unwrap();
    receive(&mut receiver).unwrap();
    bench.inject(Kind::WriteBackEarly.on(Direction::C2H, 0));
    receiver.set_ahead(1).unwrap();
    let error = receiver.wait(LIMIT).unwrap_err();
    assert!(matches!(error, EngineError::NoMetadata { status: 0, length: 0, .. }), "{error}");
    assert!(error.to_string().contains("recover"), "{error}");
}

#[test]
fn a_stopped_receiver_keeps_what_arrived() {
    for ring in RINGS {
        let bench = bench(Options::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        send(&card, &mut sender, &pattern(100, 1)).unwrap();
        let first = receiver.wait(LIMIT).unwrap();
        receiver.stop().unwrap();
        receiver.stop().unwrap();
        assert!(matches!(receiver.poll(), Err(EngineError::Stopped)));
        let mut bytes = [0; 100];
        receiver.read(&first, 0, &mut bytes).unwrap();
        assert!(bytes[..] == pattern(100, 1));
        assert!(matches!(receiver.give_back(first), Err(EngineError::Stopped)));
        send(&card, &mut sender, &pattern(100, 2)).unwrap();
        receiver.recover().unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(100, 2), 1), "{ring}");
    }
}

#[test]
fn dropped_in_the_middle_it_can_be_opened_again() {
    for ring in RINGS {
        let bench = bench(Options::default());
        let card = bench.open();
        let (mut sender, receiver) = pair(&card, options(ring, 4, 256));
        send(&card, &mut sender, &[7; 5000]).unwrap();
        // Some of the packet is in buffers, the rest on the card.
        drop(receiver);
        drop(sender);
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        send(&card, &mut sender, &pattern(700, 1)).unwrap();
        let (rest, _) = receive(&mut receiver).unwrap();
        assert!(rest.len() <= 5000 && rest.iter().all(|&byte| byte == 7), "{ring}: {} bytes", rest.len());
        assert!(receive(&mut receiver).unwrap() == (pattern(700, 1), 3), "{ring}");
        // That the card was brought back under it is told, and recovered from.
        card.recover().unwrap();
        assert!(matches!(receiver.wait(LIMIT), Err(EngineError::Reset { .. })));
        receiver.recover().unwrap();
        sender.recover().unwrap();
        send(&card, &mut sender, &pattern(700, 2)).unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(700, 2), 3), "{ring}");
    }
}

/// As hardware is said to be: an engine that waits for the stream stays busy.
// Two tests: a card whose memory is kept for the life of the process is not opened twice in it.
#[test]
fn an_engine_that_waits_for_the_stream_over_credits() {
    an_engine_that_waits_for_the_stream(Ring::Credits);
}

#[test]
fn an_engine_that_waits_for_the_stream_over_a_chain() {
    an_engine_that_waits_for_the_stream(Ring::Chain);
}

fn an_engine_that_waits_for_the_stream(ring: Ring) {
    let bench = Bench::new(Options { stream: true, ..Options::default() }, Design::Loopback);
    let card = bench.open_impatient();
    let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
    // It has a buffer, and waits for the stream.
    assert!(matches!(receiver.wait(A_WHILE), Err(EngineError::Deadline { .. })));
    // The user logic ends a packet while the engine is stopped.
    let mut helped = false;
    let help = &mut || {
        if !std::mem::replace(&mut helped, true) {
            send(&card, &mut sender, &[1; 100])?;
        }
        Ok(())
    };
    receiver.recover_with(help).unwrap();
    assert!(helped);
    // What it was helped with may have been taken as finished.
    if let Ok(received) = receiver.wait(A_WHILE) {
        receiver.give_back(received).unwrap();
    }
    // With as many buffers as packets it becomes idle.
    receiver.set_ahead(0).unwrap();
    for number in 0..4 {
        send(&card, &mut sender, &pattern(200, number)).unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(200, number), 1), "{ring}");
    }
    assert!(matches!(receiver.wait(LIMIT), Err(EngineError::NoBuffers)));
    receiver.close().unwrap();
    // With more it hangs, and its memory is not released: the next packet goes there, and ends that.
    let mut receiver = card.stream_c2h(0, options(ring, 4, 256)).unwrap();
    assert!(matches!(receiver.wait(A_WHILE), Err(EngineError::Deadline { .. })));
    let error = receiver.close().unwrap_err();
    assert!(matches!(error, EngineError::Quarantined { .. }), "{error}");
    send(&card, &mut sender, &[9; 256]).unwrap();
    drop(sender);
    let (mut sender, mut receiver) = pair(&card, options(ring, 2, 256));
    receiver.set_ahead(0).unwrap();
    for number in 0..2 {
        send(&card, &mut sender, &pattern(200, number)).unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(200, number), 1), "{ring}");
    }
}

#[test]
fn a_stream_that_hangs_has_a_deadline_and_a_snapshot() {
    let bench = bench(Options::default());
    let card = bench.open();
    let (mut sender, mut receiver) = pair(&card, options(Ring::Credits, 4, 256));
    bench.inject(Kind::AxiHang(Lasting::Millis(200)).on(Direction::H2C, 0));
    let buffer = card.allocate(100, Direction::H2C).unwrap();
    let ticket = sender.send(&buffer, 0..100).unwrap();
    let error = sender.wait(ticket, A_WHILE).unwrap_err();
    assert!(error.to_string().contains("H2C channel 0: busy"), "{error}");
    sender.wait(ticket, LIMIT).unwrap();
    assert!(receive(&mut receiver).unwrap() == (vec![0; 100], 1));
}

#[test]
fn the_wrong_kind_of_channel_names_the_right_one() {
    let bench = bench(Options::default());
    let card = bench.open();
    let error = card.h2c(0).unwrap_err();
    assert!(matches!(error, CardError::Engine(EngineError::Stream { .. })));
    assert!(error.to_string().contains("Card::stream_h2c"), "{error}");
    for (buffers, bytes) in [(0, 64), (257, 64), (1, 0), (1, 100), (1, 1 << 28), (1, u32::MAX)] {
        let error = card.stream_c2h(0, options(Ring::Credits, buffers, bytes)).unwrap_err();
        assert!(matches!(error, CardError::Engine(EngineError::BadBuffers { .. })), "{error}");
    }
    card.stream_c2h(0, options(Ring::Credits, 256, 64)).unwrap();
    drop(card);
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let error = card.stream_c2h(0, ReceiverOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::Engine(EngineError::NotStream { .. })));
    assert!(error.to_string().contains("Card::c2h"), "{error}");
    let error = card.stream_h2c(1, ChannelOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::Engine(EngineError::NotStream { .. })));
    assert!(card.stream_h2c(4, ChannelOptions::default()).is_err());
}

/// Whole packets, and one without an end, of a program that is gone.
#[test]
fn what_an_earlier_program_left_is_dropped_on_request() {
    for ring in RINGS {
        let bench = bench(Options::default());
        let card = bench.open();
        let quick = Discard { quiet: Duration::from_millis(200), ..Discard::default() };
        let with = |discard| ReceiverOptions { discard, ..options(ring, 4, 4096) };
        let mut sender = card.stream_h2c(0, options(ring, 4, 256).channel).unwrap();
        for number in 0..3 {
            send(&card, &mut sender, &pattern(1000, number)).unwrap();
        }
        // Without being asked nothing is dropped.
        let mut receiver = card.stream_c2h(0, with(None)).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == pattern(1000, 0));
        assert_eq!(receiver.discarded(), Discarded::default());
        receiver.stop().unwrap();
        receiver.close().unwrap();
        let buffer = card.allocate(6400, Direction::H2C).unwrap();
        let cut = sender.send_part(&buffer, 0..6400).unwrap();
        sender.wait(cut, LIMIT).unwrap();
        let mut receiver = card.stream_c2h(0, with(Some(quick))).unwrap();
        let discarded = receiver.discarded();
        assert!(!discarded.more && discarded.packets <= 2, "{discarded:?}");
        assert!((6400..=8400).contains(&discarded.bytes), "{discarded:?}");
        send(&card, &mut sender, &pattern(10_000, 9)).unwrap();
        let (packet, buffers) = receive(&mut receiver).unwrap();
        assert!(packet == pattern(10_000, 9), "{ring}");
        // Four short ones at most were out.
        assert!((3..=3 + 4).contains(&buffers), "{buffers}");
        for number in 0..8 {
            send(&card, &mut sender, &pattern(5000, number)).unwrap();
            assert!(receive(&mut receiver).unwrap().0 == pattern(5000, number), "{ring}");
        }
    }
}

#[test]
fn a_stream_that_does_not_pause_is_not_dropped_for_ever() {
    let bench = bench(Options::default());
    let card = bench.open();
    let mut sender = card.stream_h2c(0, ChannelOptions::default()).unwrap();
    let ended = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let (card, ended) = (&card, &ended);
        scope.spawn(move || {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                send(card, &mut sender, &[5; 64]).unwrap();
            }
        });
        let discard = Discard { quiet: Duration::from_secs(5), limit: Duration::from_millis(300) };
        let with =
            |ahead| ReceiverOptions { discard: Some(discard), ahead, ..options(Ring::Credits, 4, 256) };
        // Without a buffer there is nothing to drop with.
        assert_eq!(card.stream_c2h(1, with(0)).unwrap().discarded(), Discarded::default());
        let begin = std::time::Instant::now();
        let mut receiver = card.stream_c2h(0, with(usize::MAX)).unwrap();
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
        assert!(receiver.discarded().more, "{:?}", receiver.discarded());
        assert!(receive(&mut receiver).unwrap().0.iter().all(|&byte| byte == 5));
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        // The sender may wait for room.
        while let Ok(received) = receiver.wait(A_WHILE) {
            receiver.give_back(received).unwrap();
        }
    });
}
