//! Fault plans: random plans against a driver that follows the table of `docs/faults.md`, and invalid plans.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};
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

/// Repeats `open` until no fault prevents it.
fn eventually<T, E: Display>(mut open: impl FnMut() -> Result<T, E>) -> T {
    let begin = Instant::now();
    loop {
        match open() {
            Ok(opened) => return opened,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(20), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_driver_that_follows_the_table_moves_correct_data_under_random_faults() {
    for seed in 0..12 {
        let options = EmulatorOptions { faults: Plan::chaos(seed), seed, ..EmulatorOptions::default() }
            .with_function_reset(true);
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
        let card_options = CardOptions { idle_limit: Duration::from_millis(200), ..CardOptions::default() };
        let card = eventually(|| xdma_emulated_card::connect(&emulated, card_options));
        let mut h2c = eventually(|| card.h2c(0));
        let mut c2h = eventually(|| card.c2h(0));
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
