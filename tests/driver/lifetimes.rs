//! Memory and the card: scopes, registrations, and what happens to a card that is left in the middle of something.

use crate::support::{Bench, LIMIT, pattern};
use xdma::emulator::Options;
use xdma::emulator::logic::{Design, MsmOptions as Model};
use xdma::regs::Direction;

#[test]
fn registered_vectors_go_out_and_come_back() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let data: Vec<u64> = (0..100_000).collect();
    let source = card.register(data.clone(), Direction::H2C).unwrap();
    let sink = card.register(vec![0u64; 100_000], Direction::C2H).unwrap();
    h2c.transfer(&source, 0..800_000, 0x100, LIMIT).unwrap();
    c2h.transfer(&sink, 0..800_000, 0x100, LIMIT).unwrap();
    assert_eq!(source.into_inner().unwrap(), data);
    assert_eq!(sink.into_inner().unwrap(), data);
}

#[test]
fn slices_are_lent_for_the_length_of_a_scope() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let (data, mut seen) = (pattern(70_000, 5), vec![0u8; 70_000]);
    h2c.scope(LIMIT, |s| {
        let lent = s.lend(&data).unwrap();
        // Nobody waits: the scope does.
        s.submit(&*lent, 0..70_000, 0).unwrap();
    });
    assert_eq!(h2c.in_flight(), 0);
    c2h.scope(LIMIT, |s| {
        let lent = s.lend_mut(&mut seen).unwrap();
        s.submit(&*lent, 0..70_000, 0).unwrap();
    });
    assert!(seen == data);
}

#[test]
fn a_panic_in_a_scope_waits_too() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let data = pattern(1 << 20, 6);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        h2c.scope(LIMIT, |s| {
            let lent = s.lend(&data).unwrap();
            s.submit(&*lent, 0..1 << 20, 0).unwrap();
            panic!("in the middle of a transfer");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(h2c.in_flight(), 0);
    h2c.transfer(&card.allocate(64, Direction::H2C).unwrap(), 0..64, 0, LIMIT).unwrap();
}

#[test]
fn a_buffer_dropped_in_flight_is_kept_until_the_card_is_done() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let data = pattern(4 << 20, 7);
    let mut source = card.allocate(4 << 20, Direction::H2C).unwrap();
    source.write(0, &data).unwrap();
    let ticket = h2c.submit(&source, 0..4 << 20, 0).unwrap();
    drop(source);
    h2c.wait(ticket, LIMIT).unwrap();
    let sink = card.allocate(4 << 20, Direction::C2H).unwrap();
    c2h.transfer(&sink, 0..4 << 20, 0, LIMIT).unwrap();
    let mut seen = vec![0u8; 4 << 20];
    sink.read(0, &mut seen).unwrap();
    assert!(seen == data);
    assert!(bench.log().faults.is_empty(), "the card was refused nothing");
}

#[test]
fn a_card_left_busy_keeps_its_memory_and_is_not_given_back() {
    let bench = Bench::new(Options::default(), Design::Msm(Model { watchdog: 0, ..Model::default() }));
    {
        let card = bench.open();
        let mut h2c = card.h2c(0).unwrap();
        let source = card.allocate(1 << 20, Direction::H2C).unwrap();
        // The FIFO takes a part of it, and the engine waits for ever.
        let ticket = h2c.submit(&source, 0..1 << 20, xdma::regs::msm::SCALAR_WINDOW).unwrap();
        h2c.wait(ticket, std::time::Duration::from_millis(100)).unwrap_err();
        let error = h2c.close().unwrap_err();
        assert!(error.to_string().contains("does not become idle; reset the card"), "{error}");
    }
    // The engine may still read the memory, so this process keeps it, and with it the card.
    let error = bench.try_open(Default::default()).unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
}
