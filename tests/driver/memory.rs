//! Transfers to and from card memory, over both rings.

use xdma::channel::{ChannelOptions, EngineError, Poll, Ring, SubmitError, Transfers};
use xdma::regs::Direction;
use xdma_emulator::{CardFile, EmulatorOptions};
use xdma_testkit::bench::{Bench, LIMIT, cards, pattern};

fn rings() -> impl Iterator<Item = (CardFile, ChannelOptions)> {
    let options = |ring| ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
    cards()
        .into_iter()
        .flat_map(move |card| [Ring::Chain, Ring::Credits].map(|ring| (card.clone(), options(ring))))
}

#[test]
fn data_written_is_read_back() {
    for (card, options) in rings() {
        let name = card.name.clone();
        let bench = Bench::memory(EmulatorOptions::like(card));
        let card = bench.open();
        let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
        let mut c2h = card.channel(Direction::C2H, 3, options).unwrap();
        for (len, at) in [(1, 0), (63, 1), (4096, 0xfff), (1 << 20, 1 << 30), (5_000_001, 0x123)] {
            let data = pattern(len, at);
            let mut source = card.allocate(len as u64, Direction::H2C).unwrap();
            source.write(0, &data).unwrap();
            let sink = card.allocate(len as u64, Direction::C2H).unwrap();
            h2c.transfer(&source, 0..len as u64, at, LIMIT).unwrap();
            c2h.transfer(&sink, 0..len as u64, at, LIMIT).unwrap();
            let mut seen = vec![0u8; len];
            sink.read(0, &mut seen).unwrap();
            assert!(seen == data, "{name}, {:?}, {len} bytes at {at:#x}", options.ring);
        }
    }
}

#[test]
fn the_ring_wraps_and_jobs_queue() {
    for (card, options) in rings() {
        let bench = Bench::memory(EmulatorOptions::like(card));
        let card = bench.open();
        let mut h2c = card.channel(Direction::H2C, 1, ChannelOptions { slots: 8, ..options }).unwrap();
        let mut source = card.allocate(64 * 100, Direction::H2C).unwrap();
        let data = pattern(6400, 7);
        source.write(0, &data).unwrap();
        let mut tickets = std::collections::VecDeque::new();
        for at in 0..100u64 {
            loop {
                match h2c.submit(&source, at * 64..at * 64 + 64, 0x1000 + at * 64) {
                    Ok(ticket) => break tickets.push_back(ticket),
                    Err(SubmitError::Full { needed: 1, free: 0 }) => {
                        h2c.wait(tickets.pop_front().unwrap(), LIMIT).unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        for ticket in tickets {
            h2c.wait(ticket, LIMIT).unwrap();
        }
        assert_eq!((h2c.in_flight(), h2c.stats().bytes, h2c.stats().descriptors), (0, 6400, 100));
        let mut c2h = card.c2h(0).unwrap();
        let sink = card.allocate(6400, Direction::C2H).unwrap();
        c2h.transfer(&sink, 0..6400, 0x1000, LIMIT).unwrap();
        let mut seen = vec![0u8; 6400];
        sink.read(0, &mut seen).unwrap();
        assert!(seen == data);
    }
}

#[test]
fn programs_run_repeatedly_without_rewriting_their_descriptors() {
    for (card, options) in rings() {
        let name = card.name.clone();
        let bench = Bench::memory(EmulatorOptions::like(card));
        let card = bench.open();
        let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
        let mut c2h = card.channel(Direction::C2H, 0, options).unwrap();
        // More descriptors than there can be outstanding credits. The pieces are in reverse order on the card.
        let count = 2500u64;
        let mut source = card.allocate(count * 32, Direction::H2C).unwrap();
        let sink = card.allocate(count * 32, Direction::C2H).unwrap();
        let (mut there, mut back) = (Transfers::new(Direction::H2C), Transfers::new(Direction::C2H));
        for i in 0..count {
            there.add(&source, i * 32..i * 32 + 32, (count - 1 - i) * 32).unwrap();
        }
        back.add(&sink, 0..count * 32, 0).unwrap();
        let (there, back) = (h2c.program(&there).unwrap(), c2h.program(&back).unwrap());
        for round in 0..3 {
            let data = pattern(count as usize * 32, round);
            source.write(0, &data).unwrap();
            let before = h2c.stats().doorbells;
            let ticket = h2c.run(&there).unwrap();
            h2c.wait(ticket, LIMIT).unwrap();
            let doorbells = h2c.stats().doorbells - before;
            match options.ring {
                Some(Ring::Chain) => assert_eq!(doorbells, 1),
                _ => assert!((3..=11).contains(&doorbells), "{doorbells}"),
            }
            let ticket = c2h.run(&back).unwrap();
            c2h.wait(ticket, LIMIT).unwrap();
            let mut seen = vec![0u8; data.len()];
            sink.read(0, &mut seen).unwrap();
            assert!(seen.chunks(32).eq(data.rchunks(32)), "{name}, {:?}", options.ring);
        }
        assert_eq!(h2c.poll(h2c.last_ticket().unwrap()).unwrap(), Poll::Ready);
    }
}

/// AXI FIXED bursts (control bit 25), for a FIFO: each beat is written to and read from the same address.
#[test]
fn a_fixed_address_receives_every_beat() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let fixed = ChannelOptions { fixed_address: true, ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, fixed).unwrap();
    let mut c2h = card.c2h(0).unwrap();
    let data = pattern(256, 3);
    let mut source = card.allocate(256, Direction::H2C).unwrap();
    source.write(0, &data).unwrap();
    let sink = card.allocate(256, Direction::C2H).unwrap();
    let read = || {
        let mut seen = vec![0; 256];
        sink.read(0, &mut seen).unwrap();
        seen
    };
    h2c.transfer(&source, 0..256, 0x1000, LIMIT).unwrap();
    c2h.transfer(&sink, 0..256, 0x1000, LIMIT).unwrap();
    assert_eq!(read(), [&data[192..], &[0; 192]].concat(), "only the last beat is in memory");
    drop(c2h);
    let mut c2h = card.channel(Direction::C2H, 0, fixed).unwrap();
    c2h.transfer(&sink, 0..256, 0x1000, LIMIT).unwrap();
    assert_eq!(read(), data[192..].repeat(4));
    // A fixed address requires whole beats.
    let error = h2c.transfer(&source, 0..100, 0x1000, LIMIT).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
}

/// Small buffers share mappings, which are unmapped as soon as none of their buffers is in use. The card reports accesses after
/// that.
#[test]
fn mappings_are_created_and_released_during_transfers() {
    const LEN: u64 = 300_000;
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    std::thread::scope(|scope| {
        for index in 0..2u64 {
            let card = &card;
            scope.spawn(move || {
                let mut h2c = card.h2c(index as usize).unwrap();
                let mut c2h = card.c2h(index as usize).unwrap();
                for round in 0..6 {
                    let base = (index * 6 + round) << 24;
                    let data: Vec<Vec<u8>> = (0..12).map(|at| pattern(LEN as usize, base + at)).collect();
                    for (at, data) in (0..).zip(&data) {
                        let mut buffer = card.allocate(LEN, Direction::H2C).unwrap();
                        buffer.write(0, data).unwrap();
                        let to = base + (at << 20);
                        if at % 3 == 0 {
                            let mut transfers = Transfers::new(Direction::H2C);
                            transfers.add(&buffer, 0..LEN, to).unwrap();
                            let program = h2c.program(&transfers).unwrap();
                            h2c.run(&program).unwrap();
                        } else {
                            h2c.submit(&buffer, 0..LEN, to).unwrap();
                        }
                        // The buffer and the program are dropped while in flight.
                    }
                    h2c.wait(h2c.last_ticket().unwrap(), LIMIT).unwrap();
                    for (at, data) in (0..).zip(&data) {
                        let back = card.allocate(LEN, Direction::C2H).unwrap();
                        c2h.transfer(&back, 0..LEN, base + (at << 20), LIMIT).unwrap();
                        let mut seen = vec![0; LEN as usize];
                        back.read(0, &mut seen).unwrap();
                        assert!(seen == *data, "round {round}, buffer {at}");
                    }
                }
            });
        }
    });
}
