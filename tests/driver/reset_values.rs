//! What a card is left with: every control register as after a reset, whatever was there when it was opened.

use xdma::card::{Card, CardOptions, Source};
use xdma::channel::{Channel, ChannelOptions, Ring, Wait};
use xdma::memory::Buffer;
use xdma::regs::{Direction, MAX_CHANNELS};
use xdma_emulator::faults::{BadCompletion, Kind, Lasting};
use xdma_emulator::{Options, Profile};
use xdma_testkit::bench::{Bench, LIMIT, profiles};
use xdma_testkit::controls::{Controls, changed, read};
use xdma_testkit::process;

/// Looks without changing anything.
fn controls(bench: &Bench) -> Controls {
    let found = read(&bench.try_open(CardOptions { as_found: true, ..CardOptions::default() }).unwrap());
    assert!(found.len() > 60, "{found:?}");
    found
}

/// A card with everything in use: all channels, their interrupts, a user line, the monitors.
struct Use {
    channels: Vec<Channel>,
    memory: Vec<Buffer>,
    _line: xdma::card::Interrupt,
    card: Card,
}

impl Use {
    fn of(card: Card, ring: Ring) -> Self {
        let options = ChannelOptions { ring: Some(ring), wait: Wait::Interrupt, ..ChannelOptions::default() };
        let (mut channels, mut memory) = (vec![], vec![]);
        for direction in [Direction::H2C, Direction::C2H] {
            for index in 0..MAX_CHANNELS {
                channels.push(card.channel(direction, index, options).unwrap());
                memory.push(card.allocate(10_000, direction).unwrap());
            }
        }
        let _line = card.interrupt(Source::User(5)).unwrap();
        let mut this = Self { channels, memory, _line, card };
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

/// Each profile and ring, with what a fresh card's registers read.
fn each(test: impl Fn(&Bench, Ring)) {
    for profile in profiles() {
        for ring in [Ring::Chain, Ring::Credits] {
            let bench = Bench::memory(Options { profile, ..Options::default() });
            let fresh = controls(&bench);
            test(&bench, ring);
            same(&fresh, &controls(&bench), profile, ring);
        }
    }
}

#[track_caller]
fn same(fresh: &Controls, left: &Controls, profile: Profile, ring: Ring) {
    let changed = changed(fresh, left);
    assert!(changed.is_empty(), "{profile}, {ring}: {changed:x?}");
}

#[test]
fn after_closing() {
    each(|bench, ring| {
        let Use { channels, card, .. } = Use::of(bench.open(), ring);
        channels.into_iter().for_each(|channel| channel.close().unwrap());
        drop(card);
    });
}

#[test]
fn after_dropping_everything_with_transfers_in_flight() {
    each(|bench, ring| {
        let mut used = Use::of(bench.open(), ring);
        let Use { channels, memory, .. } = &mut used;
        for (channel, memory) in channels.iter_mut().zip(memory) {
            (0..20).for_each(|_| assert!(channel.submit(memory, 0..10_000, 0).is_ok()));
        }
    });
}

#[test]
fn after_errors_with_and_without_a_recovery() {
    each(|bench, ring| {
        let mut used = Use::of(bench.open(), ring);
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
        let mut used = Use::of(bench.open(), ring);
        used.card.recover().unwrap();
        used.channels.iter_mut().for_each(|channel| channel.recover().unwrap());
        used.work();
        drop(used);
        drop(Use::of(bench.open(), ring));
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

/// What an engine that hangs needs is a reset; all others are left well.
#[test]
fn an_engine_that_hangs_is_the_only_one_that_is_not_left_well() {
    for ring in [Ring::Chain, Ring::Credits] {
        let bench = Bench::memory(Options::default());
        if bench.options().function_reset {
            println!("skipped: this card resets what hangs");
            return;
        }
        let fresh = controls(&bench);
        let mut used = Use::of(bench.open_impatient(), ring);
        bench.inject(Kind::AxiHang(Lasting::Millis(3000)).on(Direction::H2C, 1));
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
        same(&fresh, &left, Profile::F1, ring);
        // It ends by itself in the end, and the next to open and close the card puts it right.
        std::thread::sleep(std::time::Duration::from_millis(3000));
        drop(bench.open());
        same(&fresh, &controls(&bench), Profile::F1, ring);
    }
}

#[test]
fn after_sigkill_and_the_next_to_open_and_close_it() {
    const TEST: &str = "leftovers::after_sigkill_and_the_next_to_open_and_close_it";
    const RING: &str = "XDMA_TEST_RING";
    if process::is(TEST) {
        let ring = if std::env::var(RING).unwrap() == "chain" { Ring::Chain } else { Ring::Credits };
        let _used = Use::of(process::open().unwrap(), ring);
        println!("in use");
        loop {
            std::thread::park();
        }
    }
    each(|bench, ring| {
        let mut victim = process::start_with(&bench.name(), TEST, TEST, &[(RING, &ring.to_string())]);
        process::await_word(&mut victim, "in use");
        victim.kill().unwrap();
        process::finish(victim);
        drop(bench.open());
    });
}
