//! AXI-Stream channels on a card with a loopback: packets are sent and received.

use std::thread;
use std::time::Duration;
use xdma::card::Card;
use xdma::channel::stream::{
    BufferError, Discard, Discarded, ReceiveError, Receiver, ReceiverOptions, Sender,
};
use xdma::channel::{
    ChannelOptions, CloseError, EngineError, OpenError, Ring, TransferError, Transfers, Wait, WaitError,
};
use xdma::memory::MemoryError;
use xdma::regs::Direction;
use xdma_emulator::faults::{FaultDuration, Kind};
use xdma_emulator::logic::{Design, Loopback};
use xdma_emulator::{EmulatorOptions, Switches};
use xdma_testkit::bench::{Bench, LIMIT, pattern};

const RINGS: [Ring; 2] = [Ring::Chain, Ring::Credits];
/// Time to wait for an event that should not occur.
const A_WHILE: Duration = Duration::from_millis(30);

/// Returns a card whose engines can be stopped while they wait for the stream.
fn bench(options: EmulatorOptions) -> Bench {
    let switches = Switches { stop_ends_idle_stream: true.into(), ..Switches::default() };
    Bench::new(options.with_streams().with_switches(switches), Design::Loopback)
}

fn options(ring: Ring, buffers: usize, bytes: u32) -> ReceiverOptions {
    let channel = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
    ReceiverOptions { channel, buffers, bytes, ..ReceiverOptions::default() }
}

fn pair(card: &Card, options: ReceiverOptions) -> (Sender, Receiver) {
    (card.stream_h2c(0, options.channel).unwrap(), card.stream_c2h(0, options).unwrap())
}

/// Sends a packet and waits until the stream has accepted it.
fn send(card: &Card, sender: &mut Sender, data: &[u8]) -> Result<(), TransferError> {
    let mut buffer = card.allocate(data.len() as u64, Direction::H2C).unwrap();
    buffer.write(0, data).unwrap();
    let ticket = sender.send(&buffer, 0..data.len() as u64)?;
    Ok(sender.wait(ticket, LIMIT)?)
}

/// Receives a packet. Returns its content, and the number of buffers that it used.
fn receive(receiver: &mut Receiver) -> Result<(Vec<u8>, usize), ReceiveError> {
    let mut packet = vec![];
    for count in 1.. {
        let received = receiver.wait(LIMIT)?;
        let start = packet.len();
        packet.resize(start + received.len(), 0);
        receiver.read(&received, 0, &mut packet[start..]).unwrap();
        let ends = received.ends_packet();
        receiver.recycle(received).unwrap();
        if ends {
            return Ok((packet, count));
        }
    }
    unreachable!("packets end")
}

/// Returns packet sizes from one byte to several buffers, boundary cases first.
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
            let bench = bench(EmulatorOptions { seed, ..EmulatorOptions::default() });
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
        let bench = bench(EmulatorOptions::default());
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
fn a_slow_receiver_delays_the_stream_and_loses_nothing() {
    for ring in RINGS {
        let bench = bench(EmulatorOptions::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 4096));
        // More data than fits into the card's FIFO and all buffers.
        let len = Loopback::DEFAULT_DEPTH as u64 + 8 * 4096;
        let data = pattern(len as usize, 3);
        let mut buffer = card.allocate(len, Direction::H2C).unwrap();
        buffer.write(0, &data).unwrap();
        let ticket = sender.send(&buffer, 0..len).unwrap();
        let mut held: Vec<_> = (0..4).map(|_| receiver.wait(LIMIT).unwrap()).collect();
        assert!(matches!(receiver.wait(LIMIT), Err(ReceiveError::NoBuffers)), "all buffers are in use");
        let stats = receiver.channel().stats();
        assert_eq!((stats.starved, stats.stalls()), (1, 1), "counted once, until a buffer is recycled");
        assert!(receiver.poll().unwrap().is_none());
        assert!(matches!(sender.wait(ticket, A_WHILE), Err(WaitError::Deadline { .. })), "{ring}");
        // Buffers keep their content until they are recycled.
        let mut seen = vec![];
        for part in held.drain(..) {
            let mut bytes = vec![0; part.len()];
            receiver.read(&part, 0, &mut bytes).unwrap();
            seen.extend(bytes);
            assert!(!part.ends_packet());
            receiver.recycle(part).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        seen.extend(receive(&mut receiver).unwrap().0);
        assert!(seen == data, "{ring}");
        sender.wait(ticket, LIMIT).unwrap();
        // With enough buffers, the stream is not delayed.
        let before = receiver.channel().stats().starved;
        sender.send(&buffer, 0..1000).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == data[..1000]);
        assert_eq!(receiver.channel().stats().starved, before);
    }
}

#[test]
fn buffers_are_recycled_in_any_order_and_only_by_their_own_receiver() {
    let bench = bench(EmulatorOptions::default());
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
            assert!(matches!(beyond, BufferError::Memory(MemoryError::OutOfRange { .. })));
            assert!(matches!(other.read(&received, 0, &mut bytes), Err(BufferError::ForeignBuffer)));
            receiver.recycle(received).unwrap();
        }
    }
    send(&card, &mut sender, &[1]).unwrap();
    let received = receiver.wait(LIMIT).unwrap();
    assert!(matches!(other.recycle(received), Err(BufferError::ForeignBuffer)));
}

#[test]
fn packets_are_received_with_each_way_of_waiting() {
    let bench = bench(EmulatorOptions::default());
    let card = bench.open();
    for wait in Wait::ALL {
        for ring in RINGS {
            let mut options = options(ring, 4, 256);
            options.channel.wait = wait;
            let (mut sender, mut receiver) = pair(&card, options);
            let error = receiver.wait(A_WHILE).unwrap_err();
            let ReceiveError::Wait(WaitError::Deadline { snapshot, .. }) = &error else {
                panic!("{wait} {error}")
            };
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
fn data_from_before_a_failure_is_delivered_and_the_rest_follows_after_a_recovery() {
    for ring in RINGS {
        let bench = bench(EmulatorOptions::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        // The user logic answers with an error when the engine fetches data for the third buffer.
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
        assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
        assert!(error.to_string().contains("C2H channel 0"), "{error}");
        // Further calls return the same error.
        for again in [receiver.poll().unwrap_err(), receiver.wait(LIMIT).unwrap_err()] {
            assert!(matches!(again.engine(), Some(EngineError::Failed { .. })), "{again}");
        }
        receiver.recover().unwrap();
        for number in number..6 {
            assert!(receive(&mut receiver).unwrap().0 == pattern(200, number), "{ring} {number}");
        }
    }
}

#[test]
fn a_sender_fails_and_recovers() {
    for ring in RINGS {
        let bench = bench(EmulatorOptions::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        bench.inject(Kind::BadMagic.on(Direction::H2C, 0));
        let error = send(&card, &mut sender, &[1; 100]).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
        let error = send(&card, &mut sender, &[2; 100]).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
        sender.recover().unwrap();
        send(&card, &mut sender, &[3; 100]).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == [3; 100]);
        sender.stop().unwrap();
        sender.recover().unwrap();
        sender.close().unwrap();
    }
}

/// The count arrives before the data and its metadata. The metadata of the previous filling must not be used instead.
#[test]
fn stale_metadata_is_not_mistaken_for_new() {
    let bench = bench(EmulatorOptions::default());
    let card = bench.open();
    let (mut sender, mut receiver) = pair(&card, options(Ring::Credits, 1, 256));
    for number in 0..3 {
        send(&card, &mut sender, &pattern(200, number)).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == pattern(200, number));
    }
    receiver.set_max_posted(0).unwrap();
    // The engine still has one buffer, for this packet.
    send(&card, &mut sender, &[0; 200]).unwrap();
    receive(&mut receiver).unwrap();
    bench.inject(Kind::WriteBackEarly.on(Direction::C2H, 0));
    receiver.set_max_posted(1).unwrap();
    let error = receiver.wait(LIMIT).unwrap_err();
    assert!(matches!(error, ReceiveError::NoMetadata { status: 0, length: 0, .. }), "{error}");
    assert!(error.to_string().contains("recover"), "{error}");
}

#[test]
fn a_stopped_receiver_keeps_received_data() {
    for ring in RINGS {
        let bench = bench(EmulatorOptions::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        send(&card, &mut sender, &pattern(100, 1)).unwrap();
        let first = receiver.wait(LIMIT).unwrap();
        receiver.stop().unwrap();
        receiver.stop().unwrap();
        assert!(matches!(receiver.poll().unwrap_err().engine(), Some(EngineError::Stopped)));
        let mut bytes = [0; 100];
        receiver.read(&first, 0, &mut bytes).unwrap();
        assert!(bytes[..] == pattern(100, 1));
        assert!(matches!(receiver.recycle(first), Err(BufferError::Engine(EngineError::Stopped))));
        send(&card, &mut sender, &pattern(100, 2)).unwrap();
        receiver.recover().unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(100, 2), 1), "{ring}");
    }
}

#[test]
fn a_receiver_dropped_within_a_packet_can_be_opened_again() {
    for ring in RINGS {
        let bench = bench(EmulatorOptions::default());
        let card = bench.open();
        let (mut sender, receiver) = pair(&card, options(ring, 4, 256));
        send(&card, &mut sender, &[7; 5000]).unwrap();
        // A part of the packet is in buffers, the rest is on the card.
        drop(receiver);
        drop(sender);
        let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
        send(&card, &mut sender, &pattern(700, 1)).unwrap();
        let (rest, _) = receive(&mut receiver).unwrap();
        assert!(rest.len() <= 5000 && rest.iter().all(|&byte| byte == 7), "{ring}: {} bytes", rest.len());
        assert!(receive(&mut receiver).unwrap() == (pattern(700, 1), 3), "{ring}");
        // A recovery of the card is reported, and the channels can be recovered.
        card.recover().unwrap();
        let error = receiver.wait(LIMIT).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Reset { .. })), "{error}");
        receiver.recover().unwrap();
        sender.recover().unwrap();
        send(&card, &mut sender, &pattern(700, 2)).unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(700, 2), 3), "{ring}");
    }
}

/// As reported for hardware, an engine that waits for the stream stays busy.
// There are two tests because a card with quarantined memory cannot be opened twice in one process.
#[test]
fn an_engine_that_waits_for_the_stream_stays_busy_with_credits() {
    engine_waits_for_the_stream(Ring::Credits);
}

#[test]
fn an_engine_that_waits_for_the_stream_stays_busy_with_a_chain() {
    engine_waits_for_the_stream(Ring::Chain);
}

fn engine_waits_for_the_stream(ring: Ring) {
    let switches = Switches { stop_ends_idle_stream: false.into(), ..Switches::default() };
    let streams = EmulatorOptions::default().with_streams().with_switches(switches);
    let bench = Bench::new(streams, Design::Loopback);
    let card = bench.open_with_short_idle_limit();
    let (mut sender, mut receiver) = pair(&card, options(ring, 4, 256));
    // The engine has a buffer and waits for the stream.
    assert!(matches!(receiver.wait(A_WHILE), Err(ReceiveError::Wait(WaitError::Deadline { .. }))));
    // During the recovery, the user logic ends a packet.
    let mut sent = false;
    let send_packet = &mut || {
        if !std::mem::replace(&mut sent, true) {
            send(&card, &mut sender, &[1; 100]).unwrap();
        }
    };
    receiver.recover_with(send_packet).unwrap();
    assert!(sent);
    // The packet may have been received before the recovery.
    if let Ok(received) = receiver.wait(A_WHILE) {
        receiver.recycle(received).unwrap();
    }
    // With equal numbers of buffers and packets, the engine becomes idle.
    receiver.set_max_posted(0).unwrap();
    for number in 0..4 {
        send(&card, &mut sender, &pattern(200, number)).unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(200, number), 1), "{ring}");
    }
    assert!(matches!(receiver.wait(LIMIT), Err(ReceiveError::NoBuffers)));
    receiver.close().unwrap();
    // With more buffers, the engine hangs, and its memory is quarantined. The next packet is written there and ends the transfer.
    let mut receiver = card.stream_c2h(0, options(ring, 4, 256)).unwrap();
    assert!(matches!(receiver.wait(A_WHILE), Err(ReceiveError::Wait(WaitError::Deadline { .. }))));
    let error = receiver.close().unwrap_err();
    assert!(matches!(error, CloseError::Quarantined { .. }), "{error}");
    send(&card, &mut sender, &[9; 256]).unwrap();
    drop(sender);
    let (mut sender, mut receiver) = pair(&card, options(ring, 2, 256));
    receiver.set_max_posted(0).unwrap();
    for number in 0..2 {
        send(&card, &mut sender, &pattern(200, number)).unwrap();
        assert!(receive(&mut receiver).unwrap() == (pattern(200, number), 1), "{ring}");
    }
}

#[test]
fn a_hanging_stream_ends_with_a_deadline_and_a_snapshot() {
    let bench = bench(EmulatorOptions::default());
    let card = bench.open();
    let (mut sender, mut receiver) = pair(&card, options(Ring::Credits, 4, 256));
    bench.inject(Kind::AxiHang(FaultDuration::Millis(200)).on(Direction::H2C, 0));
    let buffer = card.allocate(100, Direction::H2C).unwrap();
    let ticket = sender.send(&buffer, 0..100).unwrap();
    let error = sender.wait(ticket, A_WHILE).unwrap_err();
    assert!(error.to_string().contains("H2C channel 0: busy"), "{error}");
    sender.wait(ticket, LIMIT).unwrap();
    assert!(receive(&mut receiver).unwrap() == (vec![0; 100], 1));
}

#[test]
fn opening_the_wrong_kind_of_channel_names_the_right_kind() {
    let bench = bench(EmulatorOptions::default());
    let card = bench.open();
    let error = card.h2c(0).unwrap_err();
    assert!(matches!(error, OpenError::Stream { .. }));
    assert!(error.to_string().contains("open it as a stream"), "{error}");
    for (buffers, bytes) in [(0, 64), (257, 64), (1, 0), (1, 100), (1, 1 << 28), (1, u32::MAX)] {
        let error = card.stream_c2h(0, options(Ring::Credits, buffers, bytes)).unwrap_err();
        assert!(matches!(error, OpenError::BadBuffers { .. }), "{error}");
    }
    card.stream_c2h(0, options(Ring::Credits, 256, 64)).unwrap();
    drop(card);
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let error = card.stream_c2h(0, ReceiverOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotStream { .. }));
    assert!(error.to_string().contains("do not open it as a stream"), "{error}");
    let error = card.stream_h2c(1, ChannelOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotStream { .. }));
    assert!(card.stream_h2c(4, ChannelOptions::default()).is_err());
}

/// The earlier program left complete packets, and one without an end.
#[test]
fn data_of_an_earlier_program_is_discarded_on_request() {
    for ring in RINGS {
        let bench = bench(EmulatorOptions::default());
        let card = bench.open();
        let quick = Discard { quiet: Duration::from_millis(200), ..Discard::default() };
        let with = |discard| ReceiverOptions { discard, ..options(ring, 4, 4096) };
        let mut sender = card.stream_h2c(0, options(ring, 4, 256).channel).unwrap();
        for number in 0..3 {
            send(&card, &mut sender, &pattern(1000, number)).unwrap();
        }
        // By default, nothing is discarded.
        let mut receiver = card.stream_c2h(0, with(None)).unwrap();
        assert!(receive(&mut receiver).unwrap().0 == pattern(1000, 0));
        assert_eq!(receiver.discarded(), Discarded::default());
        receiver.stop().unwrap();
        receiver.close().unwrap();
        let buffer = card.allocate(6400, Direction::H2C).unwrap();
        let part = sender.send_part(&buffer, 0..6400).unwrap();
        sender.wait(part, LIMIT).unwrap();
        let mut receiver = card.stream_c2h(0, with(Some(quick))).unwrap();
        let discarded = receiver.discarded();
        assert!(!discarded.more && discarded.packets <= 2, "{discarded:?}");
        assert!((6400..=8400).contains(&discarded.bytes), "{discarded:?}");
        send(&card, &mut sender, &pattern(10_000, 9)).unwrap();
        let (packet, buffers) = receive(&mut receiver).unwrap();
        assert!(packet == pattern(10_000, 9), "{ring}");
        // Up to four buffers were posted with a shorter length.
        assert!((3..=3 + 4).contains(&buffers), "{buffers}");
        for number in 0..8 {
            send(&card, &mut sender, &pattern(5000, number)).unwrap();
            assert!(receive(&mut receiver).unwrap().0 == pattern(5000, number), "{ring}");
        }
    }
}

#[test]
fn discarding_a_continuous_stream_ends_at_the_limit() {
    let bench = bench(EmulatorOptions::default());
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
        let with = |max_posted| ReceiverOptions {
            discard: Some(discard),
            max_posted,
            ..options(Ring::Credits, 4, 256)
        };
        // Without posted buffers, nothing can be discarded.
        assert_eq!(card.stream_c2h(1, with(0)).unwrap().discarded(), Discarded::default());
        let begin = std::time::Instant::now();
        let mut receiver = card.stream_c2h(0, with(usize::MAX)).unwrap();
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
        assert!(receiver.discarded().more, "{:?}", receiver.discarded());
        assert!(receive(&mut receiver).unwrap().0.iter().all(|&byte| byte == 5));
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        // The sender may be waiting for space in the FIFO.
        while let Ok(received) = receiver.wait(A_WHILE) {
            receiver.recycle(received).unwrap();
        }
    });
}

/// A program and a plain submission on a sender are one packet each, also after a part of a packet was sent.
#[test]
fn a_program_and_a_submission_are_a_packet_each() {
    for ring in RINGS {
        let bench = bench(EmulatorOptions::default());
        let card = bench.open();
        let (mut sender, mut receiver) = pair(&card, options(ring, 8, 4096));
        let data = pattern(640, 7);
        let mut buffer = card.allocate(640, Direction::H2C).unwrap();
        buffer.write(0, &data).unwrap();
        let mut transfers = Transfers::new(Direction::H2C);
        transfers.add(&buffer, 0..128, 0).unwrap().add(&buffer, 128..640, 0).unwrap();
        let program = sender.program(&transfers).unwrap();
        for _ in 0..3 {
            let run = sender.run(&program).unwrap();
            sender.wait(run, LIMIT).unwrap();
            assert_eq!(receive(&mut receiver).unwrap().0, data, "{ring}");
        }
        sender.send_part(&buffer, 0..64).unwrap();
        let rest = sender.submit(&buffer, 64..640, 0).unwrap();
        sender.wait(rest, LIMIT).unwrap();
        assert_eq!(receive(&mut receiver).unwrap().0, data, "{ring}");
    }
}
