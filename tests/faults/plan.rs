//! Fault plans: random plans against a driver that follows the table of `docs/faults.md`, and invalid plans.

use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions};
use xdma::channel::{Channel, EngineError};
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::faults::{Kind, Plan};
use xdma_emulator::{EmulatedCard, EmulatorOptions, Error, logic::Memory};

const LEN: u64 = 9000;

/// Repeats a transfer until it succeeds, with the recoveries of the table.
fn transfer_with_recovery(card: &Card, channel: &mut Channel, buffer: &Buffer, seed: u64) {
    for _ in 0..50 {
        let error = match channel.transfer(buffer, 0..LEN, 0x1003, Duration::from_millis(300)) {
            Ok(()) => return,
            Err(error) => error,
        };
        let recovered = match error.engine() {
            Some(EngineError::Gone { .. }) => card.recover().is_ok() && channel.recover().is_ok(),
            _ => channel
                .recover()
                .or_else(|_| card.recover().map_err(drop).and_then(|()| channel.recover().map_err(drop)))
                .is_ok(),
        };
        if !recovered {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("seed {seed}: no recovery succeeded");
}

#[test]
fn a_driver_that_follows_the_table_moves_correct_data_under_random_faults() {
    for seed in 0..12 {
        let options = EmulatorOptions { faults: Plan::chaos(seed), seed, ..EmulatorOptions::default() }
            .with_function_reset(true);
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
        let card_options = CardOptions { idle_limit: Duration::from_millis(200), ..CardOptions::default() };
        let open = || xdma_emulated_card::connect(&emulated, card_options);
        let card = (0..50).find_map(|_| open().ok()).expect("the card can be opened");
        let channel = |open: &dyn Fn() -> Option<Channel>| {
            (0..50).find_map(|_| open()).expect("the channel can be opened")
        };
        let mut h2c = channel(&|| card.h2c(0).ok());
        let mut c2h = channel(&|| card.c2h(0).ok());
        let mut source = card.allocate(LEN, Direction::H2C).unwrap();
        let sink = card.allocate(LEN, Direction::C2H).unwrap();
        for round in 0..60 {
            let data: Vec<u8> = (0..LEN).map(|at| (at * 3) as u8 ^ round).collect();
            source.write(0, &data).unwrap();
            transfer_with_recovery(&card, &mut h2c, &source, seed);
            transfer_with_recovery(&card, &mut c2h, &sink, seed);
            let mut seen = vec![0; LEN as usize];
            sink.read(0, &mut seen).unwrap();
            assert!(seen == data, "seed {seed}, round {round}");
        }
        drop((h2c, c2h, source, sink, card));
        assert!(emulated.violations().is_empty(), "seed {seed}: {:?}", emulated.violations());
    }
}

#[test]
fn a_plan_for_a_missing_channel_is_refused() {
    let faults = Plan { faults: vec![Kind::BadMagic.on(Direction::C2H, 3)] };
    let options = EmulatorOptions { faults, ..EmulatorOptions::default() }.with_channels(4, 3);
    let error = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap_err();
    assert!(matches!(error, Error::FaultPlan(_)), "{error}");
}
