//! After a card was closed, every control register has its reset value, whatever its value was when the card was opened.

use xdma::card::{Card, CardOptions, Source};
use xdma::channel::{Channel, ChannelOptions, Ring, Wait};
use xdma::memory::Buffer;
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma_emulator::EmulatorOptions;
use xdma_emulator::faults::{BadCompletion, FaultDuration, Kind};
use xdma_testkit::bench::{Bench, LIMIT, cards};
use xdma_testkit::controls::{Controls, changed, read};
use xdma_testkit::process;

/// Reads the control registers without changing anything.
fn controls(bench: &Bench) -> Controls {
    let controls = read(&bench.try_open(CardOptions { as_found: true, ..CardOptions::default() }).unwrap());
    assert!(controls.len() > 60, "{controls:?}");
    controls
}

/// A card with everything in use: all channels, their interrupts and monitors, and a user interrupt.
struct CardInUse {
    channels: Vec<Channel>,
    memory: Vec<Buffer>,
    _interrupt: xdma::card::Interrupt,
    card: Card,
}

impl CardInUse {
    fn new(card: Card, ring: Ring) -> Self {
        let options = ChannelOptions { ring: Some(ring), wait: Wait::Interrupt, ..ChannelOptions::default() };
        let (mut channels, mut memory) = (vec![], vec![]);
        for direction in [Direction::H2C, Direction::C2H] {
            for index in 0..MAX_CHANNELS {
                channels.push(card.channel(direction, index, options).unwrap());
                memory.push(card.allocate(10_000, direction).unwrap());
            }
        }
        let _interrupt = card.interrupt(Source::User(5)).unwrap();
        let mut this = Self { channels, memory, _interrupt, card };
        this.work();
        this
    }

    fn work(&mut self) {
        for (channel, memory) in self.channels.iter_mut().zip(&self.memory) {
            channel.start_monitor().unwrap();
            channel.transfer(memory, 0..10_000, 0, LIMIT).unwrap();
        }
    }
}

/// Runs a test with each card and ring. Afterwards, the control registers must have the values of a fresh card.
fn each(test: impl Fn(&Bench, Ring)) {
    for card in cards() {
        for ring in [Ring::Chain, Ring::Credits] {
            let bench = Bench::memory(EmulatorOptions::like(card.clone()));
            let fresh = controls(&bench);
            test(&bench, ring);
            assert_same(&fresh, &controls(&bench), &card.name, ring);
        }
    }
}

#[track_caller]
fn assert_same(fresh: &Controls, left: &Controls, card: &str, ring: Ring) {
    let changed = changed(fresh, left);
    assert!(changed.is_empty(), "{card}, {ring}: {changed:x?}");
}

#[test]
fn after_closing() {
    each(|bench, ring| {
        let CardInUse { channels, card, .. } = CardInUse::new(bench.open(), ring);
        channels.into_iter().for_each(|channel| channel.close().unwrap());
        drop(card);
    });
}

#[test]
fn after_dropping_everything_with_transfers_in_flight() {
    each(|bench, ring| {
        let mut used = CardInUse::new(bench.open(), ring);
        let CardInUse { channels, memory, .. } = &mut used;
        for (channel, memory) in channels.iter_mut().zip(memory) {
            (0..20).for_each(|_| assert!(channel.submit(memory, 0..10_000, 0).is_ok()));
        }
    });
}

#[test]
fn after_errors_with_and_without_a_recovery() {
    each(|bench, ring| {
        let mut used = CardInUse::new(bench.open(), ring);
        for (direction, at) in
            [(Direction::H2C, 0), (Direction::C2H, MAX_CHANNELS), (Direction::C2H, MAX_CHANNELS + 1)]
        {
            bench.inject(Kind::Fetch(BadCompletion::Poisoned).on(direction, at % MAX_CHANNELS));
            used.channels[at].transfer(&used.memory[at], 0..64, 0, LIMIT).unwrap_err();
        }
        used.channels[0].recover().unwrap();
        used.channels[1].stop().unwrap();
    });
}

#[test]
fn after_a_recovery_of_the_card_and_after_opening_it_twice() {
    each(|bench, ring| {
        let mut used = CardInUse::new(bench.open(), ring);
        used.card.recover().unwrap();
        used.channels.iter_mut().for_each(|channel| channel.recover().unwrap());
        used.work();
        drop(used);
        drop(CardInUse::new(bench.open(), ring));
    });
}

#[test]
fn after_a_channel_was_closed_and_opened_again() {
    each(|bench, ring| {
        let card = bench.open();
        for ring in [ring, Ring::Chain, Ring::Credits, ring] {
            let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
            let mut channel = card.channel(Direction::H2C, 2, options).unwrap();
            let memory = card.allocate(64, Direction::H2C).unwrap();
            channel.transfer(&memory, 0..64, 0, LIMIT).unwrap();
            channel.close().unwrap();
        }
    });
}

/// A hanging engine needs a reset. All other registers are restored.
#[test]
fn only_a_hanging_engine_keeps_its_register_values() {
    for ring in [Ring::Chain, Ring::Credits] {
        let bench = Bench::memory(EmulatorOptions::default());
        if bench.options().card.function.reset {
            println!("skipped: this card resets a hanging engine");
            return;
        }
        let fresh = controls(&bench);
        let mut used = CardInUse::new(bench.open_with_short_idle_limit(), ring);
        bench.inject(Kind::AxiHang(FaultDuration::Millis(3000)).on(Direction::H2C, 1));
        used.channels[1].submit(&used.memory[1], 0..10_000, 0).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let closed = used.channels.remove(1).close();
        closed.unwrap_err();
        drop(used);
        let mut left = controls(&bench);
        let (mut busy, others): (Controls, Controls) =
            left.into_iter().partition(|(name, _)| name.starts_with("h2c1"));
        left = others;
        for common in ["FETCH_HALT", "CREDIT_ENABLE"] {
            let name = left.keys().find(|name| name.contains(common)).unwrap().clone();
            busy.extend(left.remove_entry(&name));
        }
        assert_same(&fresh, &left, "F1", ring);
        // The hang ends after three seconds. Opening and closing the card then restores all registers.
        std::thread::sleep(std::time::Duration::from_millis(3000));
        drop(bench.open());
        assert_same(&fresh, &controls(&bench), "F1", ring);
    }
}

#[test]
fn after_sigkill_and_opening_the_card_again() {
    const TEST: &str = "reset_values::after_sigkill_and_opening_the_card_again";
    const RING: &str = "XDMA_TEST_RING";
    if process::is(TEST) {
        let ring = if std::env::var(RING).unwrap() == "chain" { Ring::Chain } else { Ring::Credits };
        let _used = CardInUse::new(process::open().unwrap(), ring);
        println!("in use");
        loop {
            std::thread::park();
        }
    }
    each(|bench, ring| {
        let mut child = process::start_with(&bench.name(), TEST, TEST, &[(RING, &ring.to_string())]);
        process::await_word(&mut child, "in use");
        child.kill().unwrap();
        process::finish(child);
        drop(bench.open());
    });
}
