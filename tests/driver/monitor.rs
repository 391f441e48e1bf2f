//! The driver's statistics match the counters of the engine's performance monitor and of the card.

use xdma::channel::{ChannelOptions, Ring, Transfers};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, LIMIT};

#[test]
fn the_engine_and_the_driver_count_the_same_bytes() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let width = u64::from(card.report().unwrap().data_width);
    for ring in [Ring::Chain, Ring::Credits] {
        for direction in [Direction::H2C, Direction::C2H] {
            let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
            let mut channel = card.channel(direction, 0, options).unwrap();
            let memory = card.allocate(1 << 20, direction).unwrap();
            for len in [width, 4096, 100_000 / width * width, 1 << 20] {
                let before = channel.stats().bytes;
                channel.start_monitor().unwrap();
                channel.transfer(&memory, 0..len, 0x4000, LIMIT).unwrap();
                let (seen, moved) = (channel.monitor().unwrap(), channel.stats().bytes - before);
                assert_eq!(moved, len);
                assert_eq!(seen.beats * width, len, "{ring} {direction}");
                assert!(seen.cycles >= seen.beats && !seen.saturated, "{seen:?}");
            }
        }
    }
}

#[test]
fn the_engine_counts_all_transfers_of_a_program() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let width = u64::from(card.report().unwrap().data_width);
    let options = ChannelOptions { ring: Some(Ring::Chain), ..ChannelOptions::default() };
    let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
    let memory = card.allocate(64 << 10, Direction::H2C).unwrap();
    let mut transfers = Transfers::new(Direction::H2C);
    (0..8).for_each(|piece| transfers.add(&memory, 0..8192, piece * 8192).map(drop).unwrap());
    let program = channel.program(&transfers).unwrap();
    for _ in 0..2 {
        channel.start_monitor().unwrap();
        let ticket = channel.run(&program).unwrap();
        channel.wait(ticket, LIMIT).unwrap();
        assert_eq!(channel.monitor().unwrap().beats * width, 8 * 8192);
    }
    channel.start_monitor().unwrap();
    assert_eq!(channel.monitor().unwrap().beats, 0, "starting the monitor clears it");
}

/// This includes queued chains, programs larger than the credits, and switches between lists.
#[test]
fn the_card_and_the_driver_count_the_same_doorbells_and_descriptors() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    for ring in [Ring::Chain, Ring::Credits] {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
        let memory = card.allocate(2500 * 64, Direction::H2C).unwrap();
        let mut transfers = Transfers::new(Direction::H2C);
        (0..2500).for_each(|at| transfers.add(&memory, at * 64..(at + 1) * 64, at * 128).map(drop).unwrap());
        let program = channel.program(&transfers).unwrap();
        // Only the card counts doorbells from before the channel was opened, and those that probe for credits. `check` reads a
        // register, after which all earlier writes have arrived.
        channel.check().unwrap();
        let before = (channel.stats(), bench.log().counters);
        for round in 0..20 {
            for _ in 0..8 {
                channel.submit(&memory, 0..4096, 0).unwrap();
            }
            if round % 3 == 0 {
                channel.run(&program).unwrap();
                channel.run(&program).unwrap();
            }
            channel.settle(LIMIT).unwrap();
        }
        let after = (channel.stats(), bench.log().counters);
        assert_eq!(after.0.doorbells - before.0.doorbells, after.1.doorbells - before.1.doorbells, "{ring}");
        let descriptors = after.0.descriptors - before.0.descriptors;
        assert_eq!(descriptors, after.1.descriptors_completed - before.1.descriptors_completed, "{ring}");
        assert_eq!(descriptors, 20 * 8 + 7 * 2 * 2500);
    }
}
