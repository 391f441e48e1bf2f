//! Transfers that are split across several channels.

use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions};
use xdma::channel::{
    ChannelOptions, EngineError, InvalidTransfer, Poll, PollError, Pool, PoolError, Ring, SubmitError,
    WaitError,
};
use xdma::memory::MemoryError;
use xdma::regs::Direction;
use xdma_emulator::faults::{BadCompletion, FaultDuration, Kind};
use xdma_emulator::logic::Memory;
use xdma_emulator::{EmulatedCard, EmulatorOptions};
use xdma_testkit::bench::pattern;

const LIMIT: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

fn emulated() -> (EmulatedCard, Card) {
    let emulated = EmulatedCard::start(EmulatorOptions::default(), Arc::new(Memory::new())).unwrap();
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    (emulated, card)
}

fn pool(card: &Card, direction: Direction, channels: &[usize], ring: Ring) -> Pool {
    let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
    let open = |&channel: &usize| card.channel(direction, channel, options).unwrap();
    Pool::new(channels.iter().map(open).collect()).unwrap()
}

#[test]
fn every_channel_moves_an_equal_part_at_any_alignment() {
    let (emulated, card) = emulated();
    for ring in [Ring::Credits, Ring::Chain] {
        for channels in [&[0][..], &[3, 1], &[0, 1, 2], &[0, 1, 2, 3]] {
            let mut h2c = pool(&card, Direction::H2C, channels, ring);
            let mut c2h = pool(&card, Direction::C2H, channels, ring);
            let len = MIB + 77;
            let mut source = card.allocate(len + 5, Direction::H2C).unwrap();
            let sink = card.allocate(len + 9, Direction::C2H).unwrap();
            let data = pattern(len as usize, 1);
            source.write(5, &data).unwrap();
            let bytes = |pool: &Pool| pool.channels().map(|c| c.stats().bytes).collect::<Vec<_>>();
            let before = bytes(&h2c);
            h2c.transfer(&source, 5..len + 5, 0x1003, LIMIT).unwrap();
            c2h.transfer(&sink, 9..len + 9, 0x1003, LIMIT).unwrap();
            let mut seen = vec![0u8; len as usize];
            sink.read(9, &mut seen).unwrap();
            assert!(seen == data, "{ring} over {channels:?}");
            let shares: Vec<_> = bytes(&h2c).iter().zip(&before).map(|(now, before)| now - before).collect();
            assert_eq!(shares.iter().sum::<u64>(), len);
            let even = len / channels.len() as u64;
            assert!(shares.iter().all(|&share| share.abs_diff(even) <= 8192), "{shares:?}");
        }
    }
    assert_eq!(emulated.violations(), []);
}

#[test]
fn small_transfers_alternate_between_the_channels() {
    let (_emulated, card) = emulated();
    let mut h2c = pool(&card, Direction::H2C, &[0, 1], Ring::Credits);
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let tickets: Vec<_> = (0..4).map(|at| h2c.submit(&source, 0..4096, at * 4096).unwrap()).collect();
    tickets.into_iter().for_each(|ticket| h2c.wait(ticket, LIMIT).unwrap());
    assert_eq!(h2c.channels().map(|channel| channel.stats().bytes).collect::<Vec<_>>(), [8192, 8192]);
}

#[test]
fn the_ticket_of_an_earlier_failure_does_not_fail_a_recovered_pool() {
    let (emulated, card) = emulated();
    for ring in [Ring::Credits, Ring::Chain] {
        let mut h2c = pool(&card, Direction::H2C, &[0, 1], ring);
        let source = card.allocate(4096, Direction::H2C).unwrap();
        emulated.inject(Kind::HostRead(BadCompletion::CompleterAbort).on(Direction::H2C, 0)).unwrap();
        let old = h2c.submit(&source, 0..4096, 0).unwrap();
        h2c.wait(old, LIMIT).unwrap_err();
        h2c.recover().unwrap();
        let new = h2c.submit(&source, 0..4096, 0).unwrap();
        h2c.poll(old).unwrap_err();
        h2c.wait(new, LIMIT).unwrap();
        h2c.transfer(&source, 0..4096, 0, LIMIT).unwrap();
    }
}

#[test]
fn a_pool_that_could_not_be_stopped_starts_nothing_until_it_is_recovered() {
    let emulated = EmulatedCard::start(EmulatorOptions::default(), Arc::new(Memory::new())).unwrap();
    let options = CardOptions { idle_limit: Duration::from_millis(100), ..CardOptions::default() };
    let card = xdma_emulated_card::connect(&emulated, options).unwrap();
    for ring in [Ring::Credits, Ring::Chain] {
        let mut h2c = pool(&card, Direction::H2C, &[0, 1], ring);
        let source = card.allocate(MIB, Direction::H2C).unwrap();
        let injected = || emulated.injected_faults().get("AxiHang").copied().unwrap_or(0);
        let before = injected();
        emulated.inject(Kind::AxiHang(FaultDuration::Millis(1500)).on(Direction::H2C, 0)).unwrap();
        let old = h2c.submit(&source, 0..MIB, 0).unwrap();
        while injected() == before {
            std::thread::yield_now();
        }
        assert!(matches!(h2c.stop(), Err(EngineError::Hung { .. })));
        for _ in 0..2 {
            let refused = h2c.submit(&source, 0..4096, 0);
            assert!(matches!(refused, Err(SubmitError::Engine(EngineError::Stopped))), "{ring}: {refused:?}");
        }
        let begin = std::time::Instant::now();
        while let Err(error) = h2c.recover() {
            assert!(matches!(error, EngineError::Hung { .. }) && begin.elapsed() < LIMIT, "{ring}: {error}");
        }
        assert!(!matches!(h2c.poll(old), Ok(Poll::Pending)), "{ring}");
        h2c.transfer(&source, 0..MIB, 0, LIMIT).unwrap();
    }
}

/// After the error, every channel is idle and the memory is free. After a recovery, the pool can be used again.
#[test]
fn a_failed_channel_stops_the_pool_until_it_is_recovered() {
    let (emulated, card) = emulated();
    for ring in [Ring::Credits, Ring::Chain] {
        let mut h2c = pool(&card, Direction::H2C, &[0, 1, 2], ring);
        let mut source = card.allocate(48 * MIB, Direction::H2C).unwrap();
        emulated.inject(Kind::HostRead(BadCompletion::CompleterAbort).on(Direction::H2C, 1)).unwrap();
        let ticket = h2c.submit(&source, 0..48 * MIB, 0).unwrap();
        let Err(error) = h2c.wait(ticket, LIMIT) else { panic!("a part failed") };
        assert!(error.to_string().contains("H2C channel 1"), "the error names the channel: {error}");
        assert!(h2c.channels().all(|channel| channel.in_flight() == 0));
        source.write(0, &[1u8]).expect("the memory is free");
        let (submitted, polled) = (h2c.submit(&source, 0..1, 0), h2c.poll(ticket));
        for again in [submitted.unwrap_err().to_string(), polled.unwrap_err().to_string()] {
            assert_eq!(again, error.to_string(), "the first error is reported");
        }
        h2c.recover().unwrap();
        h2c.transfer(&source, 0..MIB, 0, LIMIT).unwrap();
    }
}

#[test]
fn the_first_error_is_reported_even_if_another_channel_hangs() {
    let (emulated, _) = emulated();
    let options = CardOptions { idle_limit: Duration::from_millis(100), ..CardOptions::default() };
    let card = xdma_emulated_card::connect(&emulated, options).unwrap();
    let mut pool = pool(&card, Direction::H2C, &[0, 1], Ring::Credits);
    let mut source = card.allocate(MIB, Direction::H2C).unwrap();
    emulated.inject(Kind::AxiHang(FaultDuration::Millis(4000)).on(Direction::H2C, 0)).unwrap();
    emulated.inject(Kind::HostRead(BadCompletion::CompleterAbort).on(Direction::H2C, 1)).unwrap();
    for _ in 0..2 {
        let error = pool.transfer(&source, 0..MIB, 0, LIMIT).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    }
    assert!(matches!(pool.stop(), Err(EngineError::Hung { .. })));
    assert!(
        matches!(source.write(0, &[1u8]), Err(MemoryError::InFlight(_))),
        "the engine may still read the memory"
    );
    let begin = std::time::Instant::now();
    while let Err(error) = pool.recover() {
        assert!(matches!(error, EngineError::Hung { .. }) && begin.elapsed() < LIMIT, "{error}");
    }
    pool.transfer(&source, 0..MIB, 0, LIMIT).unwrap();
    source.write(0, &[1u8]).unwrap();
}

#[test]
fn a_transfer_that_does_not_fit_starts_nothing() {
    let (_emulated, card) = emulated();
    let open = |channel, slots| {
        card.channel(Direction::H2C, channel, ChannelOptions { slots, ..ChannelOptions::default() }).unwrap()
    };
    // The second ring has only two slots.
    let mut h2c = Pool::new(vec![open(0, 256), open(1, 2)]).unwrap();
    let source = card.allocate(MIB, Direction::H2C).unwrap();
    let descriptors = |pool: &Pool| pool.channels().map(|c| c.stats().descriptors).collect::<Vec<_>>();
    let mut tickets = vec![];
    let full = loop {
        match h2c.submit(&source, 0..MIB, 0) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
        assert!(tickets.len() < 1000, "the second channel never filled up");
    };
    assert!(matches!(full, SubmitError::Full { .. }), "{full}");
    assert_eq!(
        descriptors(&h2c),
        [tickets.len() as u64; 2],
        "both channels received the same number of parts"
    );
    tickets.into_iter().for_each(|ticket| h2c.wait(ticket, LIMIT).unwrap());
    h2c.transfer(&source, 0..MIB, 0, LIMIT).unwrap();
}

#[test]
fn invalid_calls_are_errors_and_leave_the_pool_unchanged() {
    let (_emulated, card) = emulated();
    assert!(matches!(Pool::new(vec![]), Err(PoolError)));
    let mixed = vec![card.h2c(0).unwrap(), card.c2h(0).unwrap()];
    assert!(matches!(Pool::new(mixed), Err(PoolError)));
    let mut h2c = pool(&card, Direction::H2C, &[0, 1], Ring::Credits);
    let source = card.allocate(MIB, Direction::H2C).unwrap();
    let outside = h2c.submit(&source, 0..MIB + 1, 0).unwrap_err();
    assert!(
        matches!(outside, SubmitError::Invalid(InvalidTransfer::Memory(MemoryError::OutOfRange { .. }))),
        "{outside}"
    );
    let (from, to) = (7, 3);
    assert!(matches!(
        h2c.submit(&source, from..to, 0),
        Err(SubmitError::Invalid(InvalidTransfer::Memory(_)))
    ));
    assert!(matches!(
        h2c.submit(&source, 0..MIB, u64::MAX),
        Err(SubmitError::Invalid(InvalidTransfer::CardAddress { .. }))
    ));
    let ticket = pool(&card, Direction::C2H, &[0], Ring::Credits)
        .submit(&card.allocate(64, Direction::C2H).unwrap(), 0..64, 0)
        .unwrap();
    assert!(matches!(h2c.poll(ticket), Err(PollError::ForeignTicket)));
    h2c.transfer(&source, 0..MIB, 0, LIMIT).unwrap();
}

#[test]
fn a_stopped_transfer_is_an_error_and_a_deadline_loses_nothing() {
    let (_emulated, card) = emulated();
    let mut h2c = pool(&card, Direction::H2C, &[0, 1], Ring::Chain);
    let source = card.allocate(64 * MIB, Direction::H2C).unwrap();
    let ticket = h2c.submit(&source, 0..64 * MIB, 0).unwrap();
    assert!(matches!(h2c.wait(ticket, Duration::ZERO), Err(WaitError::Deadline { .. })));
    h2c.wait(ticket, LIMIT).unwrap();
    let ticket = h2c.submit(&source, 0..64 * MIB, 0).unwrap();
    h2c.stop().unwrap();
    match h2c.poll(ticket) {
        Err(PollError::Engine(EngineError::Stopped)) | Ok(Poll::Ready) => {}
        other => panic!("{other:?}"),
    }
    assert!(h2c.channels().all(|channel| channel.in_flight() == 0));
    h2c.recover().unwrap();
    h2c.transfer(&source, 0..MIB, 0, LIMIT).unwrap();
}
