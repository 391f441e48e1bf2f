//! Plans: given with the options, drawn from a seed, and what they do to a driver that follows the table.

use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions};
use xdma::channel::{Channel, EngineError};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::faults::{Kind, Plan};
use xdma_emulator::{EmulatedCard, Error, Options, logic::Memory};

const LEN: u64 = 9000;

/// Transfers until it works, by the table's means. Gives up when nothing helps.
fn insist(card: &Card, channel: &mut Channel, buffer: &Buffer, seed: u64) {
    for _ in 0..50 {
        let error = match channel.transfer(buffer, 0..LEN, 0x1003, Duration::from_millis(300)) {
            Ok(()) => return,
            Err(error) => error,
        };
        let healed = match error.engine() {
            Some(EngineError::Gone { .. }) => card.recover().is_ok() && channel.recover().is_ok(),
            _ => channel
                .recover()
                .or_else(|_| card.recover().map_err(drop).and_then(|()| channel.recover().map_err(drop)))
                .is_ok(),
        };
        if !healed {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("seed {seed}: nothing helps");
}

/// Whatever a seed draws, a driver that follows the table ends with right data.
#[test]
fn a_driver_that_follows_the_table_survives_any_seed() {
    for seed in 0..12 {
        let options = Options { faults: Plan::chaos(seed), function_reset: true, seed, ..Options::default() };
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
        let card_options = CardOptions { idle_limit: Duration::from_millis(200), ..CardOptions::default() };
        let open = || xdma_emulated_card::connect(&emulated, card_options);
        let card = (0..50).find_map(|_| open().ok()).expect("all ones end");
        let channel = |open: &dyn Fn() -> Option<Channel>| (0..50).find_map(|_| open()).expect("it opens");
        let mut h2c = channel(&|| card.h2c(0).ok());
        let mut c2h = channel(&|| card.c2h(0).ok());
        let mut source = card.allocate(LEN, Direction::H2C).unwrap();
        let sink = card.allocate(LEN, Direction::C2H).unwrap();
        for round in 0..60 {
            let data: Vec<u8> = (0..LEN).map(|at| (at * 3) as u8 ^ round).collect();
            source.write(0, &data).unwrap();
            insist(&card, &mut h2c, &source, seed);
            insist(&card, &mut c2h, &sink, seed);
            let mut seen = vec![0; LEN as usize];
            sink.read(0, &mut seen).unwrap();
            assert!(seen == data, "seed {seed}, round {round}");
        }
        drop((h2c, c2h, source, sink, card));
        assert!(emulated.violations().is_empty(), "seed {seed}: {:?}", emulated.violations());
    }
}

#[test]
fn a_plan_for_a_channel_that_is_not_there_is_refused() {
    let faults = Plan { faults: vec![Kind::BadMagic.on(Direction::C2H, 3)] };
    let options = Options { faults, c2h_channels: 3, ..Options::default() };
    let error = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap_err();
    assert!(matches!(error, Error::FaultPlan(_)), "{error}");
}
