//! Behaviour that the documentation of the core leaves open: the driver works with every variant.

use std::time::Duration;
use xdma::card::Card;
use xdma::channel::{ChannelOptions, EngineError, Ring, SubmitError, Transfers};
use xdma::regs::Direction;
use xdma_emulator::{CardFile, EmulatorOptions, Latency, Switches};
use xdma_testkit::bench::{Bench, LIMIT, pattern};

/// Returns cards with each switch, and with each other option that affects the driver.
fn cards() -> Vec<(&'static str, EmulatorOptions)> {
    let with = |switches| EmulatorOptions::default().with_switches(switches);
    let default = Switches::default();
    vec![
        ("default", EmulatorOptions::default()),
        ("alveo", EmulatorOptions { card: CardFile::alveo(), ..EmulatorOptions::default() }),
        ("function reset", EmulatorOptions::default().with_function_reset(true)),
        ("synchronous", EmulatorOptions { synchronous: true, ..EmulatorOptions::default() }),
        ("slow", slow()),
        ("no credits", EmulatorOptions::default().with_credits(false)),
        ("busy without credits", with(Switches { busy_without_credits: true.into(), ..default })),
        ("busy after the write-back", with(Switches { busy_lag_us: 300.into(), ..default })),
        ("Stop clears Run", with(Switches { stop_clears_run: true.into(), ..default })),
        ("unlogged errors stop", with(Switches { unlogged_errors_stop: true.into(), ..default })),
        ("write-back on error", with(Switches { error_write_back: true.into(), ..default })),
        ("fetch inside pages", with(Switches { aligned_fetch: false.into(), ..default })),
        ("all switches", with(all())),
    ]
}

fn slow() -> EmulatorOptions {
    let time = Duration::from_micros(200);
    EmulatorOptions { latency: Latency { fetch: time, completion: time }, ..EmulatorOptions::default() }
}

fn all() -> Switches {
    Switches {
        busy_without_credits: true.into(),
        busy_lag_us: 100.into(),
        stop_clears_run: true.into(),
        unlogged_errors_stop: true.into(),
        error_write_back: true.into(),
        ..Switches::default()
    }
}

fn rings(card: &Card) -> Vec<Ring> {
    let options = ChannelOptions { ring: Some(Ring::Credits), ..ChannelOptions::default() };
    match card.channel(Direction::H2C, 0, options) {
        Ok(_) => vec![Ring::Chain, Ring::Credits],
        Err(error) => {
            assert!(error.to_string().contains("no descriptor credits"), "{error}");
            vec![Ring::Chain]
        }
    }
}

#[test]
fn the_driver_works_with_every_switch() {
    for (name, options) in cards() {
        for seed in 0..2 {
            let bench = Bench::memory(EmulatorOptions { seed, ..options.clone() });
            let card = bench.open();
            for ring in rings(&card) {
                println!("{name}, seed {seed}, {ring}");
                suite(&card, ring);
            }
        }
    }
}

fn suite(card: &Card, ring: Ring) {
    let options = ChannelOptions { ring: Some(ring), slots: 16, ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 2, options).unwrap();
    let mut c2h = card.channel(Direction::C2H, 1, options).unwrap();
    let data = pattern(200_000, 3);
    let mut source = card.allocate(200_000, Direction::H2C).unwrap();
    source.write(0, &data).unwrap();
    let sink = card.allocate(200_000, Direction::C2H).unwrap();

    // Several jobs in flight, more in total than the ring has slots, with a program in between.
    let mut transfers = Transfers::new(Direction::H2C);
    (0..300u64).for_each(|at| {
        transfers.add(&source, at * 100..at * 100 + 100, at * 100).unwrap();
    });
    let program = h2c.program(&transfers).unwrap();
    let mut tickets = vec![];
    for at in 0..50u64 {
        let range = 30_000 + at * 3400..30_000 + at * 3400 + 3400;
        let ticket = loop {
            match h2c.submit(&source, range.clone(), range.start) {
                Ok(ticket) => break ticket,
                Err(SubmitError::Full { .. }) => {
                    let oldest = tickets.remove(0);
                    h2c.wait(oldest, LIMIT).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        };
        tickets.push(ticket);
        if at % 10 == 5 {
            tickets.push(h2c.run(&program).unwrap());
        }
    }
    for ticket in tickets {
        h2c.wait(ticket, LIMIT).unwrap();
    }
    c2h.transfer(&sink, 0..200_000, 0, LIMIT).unwrap();
    let mut seen = vec![0u8; 200_000];
    sink.read(0, &mut seen).unwrap();
    assert!(seen == data);

    // An error, followed by a recovery.
    let good = h2c.submit(&source, 0..64, 0).unwrap();
    let bad = h2c.submit(&source, 0..64, 1 << 60).unwrap();
    let error = h2c.wait(bad, LIMIT).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    h2c.wait(good, LIMIT).unwrap();
    h2c.recover().unwrap();
    let ticket = h2c.run(&program).unwrap();
    h2c.wait(ticket, LIMIT).unwrap();
    h2c.stop().unwrap();
    h2c.recover().unwrap();
    h2c.transfer(&source, 0..200_000, 0, LIMIT).unwrap();
}

#[test]
fn the_default_ring_is_credits_if_the_core_has_them() {
    for credits in [true, false] {
        let bench = Bench::memory(EmulatorOptions::default().with_credits(credits));
        // A simulated engine always has credits.
        let ring = if bench.options().card.channels.credits.or(true) { Ring::Credits } else { Ring::Chain };
        assert_eq!(bench.open().h2c(0).unwrap().ring(), ring);
    }
}

#[test]
fn a_card_with_a_reset_is_usable_after_it() {
    for function_reset in [true, false] {
        let bench = Bench::memory(EmulatorOptions::default().with_function_reset(function_reset));
        let card = bench.open();
        let mut h2c = card.h2c(0).unwrap();
        let source = card.allocate(100, Direction::H2C).unwrap();
        h2c.transfer(&source, 0..100, 0, LIMIT).unwrap();
        let resettable = card.report().unwrap().bus.resettable;
        // A kernel may support another reset method than that of the function.
        assert!(resettable || !bench.options().card.function.reset);
        if resettable {
            card.reset().unwrap();
            h2c.recover().unwrap();
        } else {
            assert!(card.reset().is_err(), "this card has no reset");
        }
        h2c.transfer(&source, 0..100, 0, LIMIT).unwrap();
    }
}
