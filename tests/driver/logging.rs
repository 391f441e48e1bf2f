//! The library's events and spans in `tracing`.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;
use tracing_subscriber::filter::LevelFilter;
use xdma::channel::{ChannelOptions, EngineError, Ring, Transfers};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::faults::{BadCompletion, Kind};
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT};

thread_local! {
    /// This thread's log, if recording is on.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Returns the result of a call, and the lines that it logs on this thread.
fn logged<T>(call: impl FnOnce() -> T) -> (T, Vec<String>) {
    static INSTALLED: Once = Once::new();
    // One subscriber for all threads, because the interest of a subscriber is cached for all threads.
    INSTALLED.call_once(|| {
        let subscriber =
            tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(|| ThreadLog);
        subscriber.without_time().with_target(false).with_ansi(false).init();
    });
    tracing::callsite::rebuild_interest_cache();
    LOG.set(Some(vec![]));
    let result = call();
    let text = String::from_utf8(LOG.take().unwrap()).unwrap();
    (result, text.lines().map(|line| line.trim().to_owned()).collect())
}

struct ThreadLog;

impl Write for ThreadLog {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.iter_mut().for_each(|log| log.extend_from_slice(data)));
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Checks that the lines contain all parts in this order. Other lines may be in between.
#[track_caller]
fn in_order(lines: &[String], parts: &[&str]) {
    let mut left = lines.iter();
    for part in parts {
        assert!(left.any(|line| line.contains(part)), "{part:?} is missing or too early: {lines:#?}");
    }
}

#[test]
fn opening_and_closing_cards_and_channels_is_logged() {
    let bench = Bench::memory(EmulatorOptions::default());
    let ((), log) = logged(|| {
        let card = bench.open();
        let mut h2c = card.h2c(0).unwrap();
        let memory = card.allocate(4096, Direction::H2C).unwrap();
        let mut transfers = Transfers::new(Direction::H2C);
        transfers.add(&memory, 0..4096, 0).unwrap();
        let program = h2c.program(&transfers).unwrap();
        let ticket = h2c.run(&program).unwrap();
        h2c.wait(ticket, LIMIT).unwrap();
    });
    let parts = [
        "open{card=",
        "mapped iova=0x",
        "channel opened direction=H2C channel=0 ring=",
        "program built direction=H2C channel=0 descriptors=1 bytes=4096 list=0x",
        "closing channel direction=H2C channel=0 submitted=1 completed=1 bytes=4096",
        "card closed card=",
        "unmapped iova=0x",
    ];
    in_order(&log, &parts);
}

#[test]
fn transfers_are_not_logged() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    for ring in [Ring::Chain, Ring::Credits] {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
        let memory = card.allocate(4096, Direction::H2C).unwrap();
        let ((), log) = logged(|| {
            for _ in 0..300 {
                h2c.submit(&memory, 0..64, 0).unwrap();
                h2c.transfer(&memory, 0..4096, 0, LIMIT).unwrap();
            }
        });
        assert_eq!(log, Vec::<String>::new(), "{ring}");
    }
}

#[test]
fn errors_are_logged_with_the_ring_and_recoveries_as_spans() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let options = ChannelOptions { ring: Some(Ring::Chain), ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let memory = card.allocate(4096, Direction::H2C).unwrap();
    bench.inject(Kind::Fetch(BadCompletion::UnsupportedRequest).on(Direction::H2C, 0));
    let (error, log) = logged(|| {
        h2c.submit(&memory, 0..4096, 0).unwrap();
        let ticket = h2c.submit(&memory, 0..64, 0).unwrap();
        let error = h2c.wait(ticket, LIMIT).unwrap_err();
        h2c.recover().unwrap();
        error
    });
    in_order(
        &log,
        &[
            "channel error direction=H2C channel=0 error=the engine stopped",
            "recover{direction=H2C channel=0}: recovered",
        ],
    );
    let Some(EngineError::Failed { snapshot }) = error.engine() else { panic!("{error}") };
    let ring = snapshot.ring.unwrap();
    assert_eq!((ring.in_flight, ring.waiting, ring.slots - ring.free), (2, 1, 2), "{error}");
    assert_eq!((ring.ends_with, ring.oldest), (Some(1), Some(snapshot.list)), "{error}");
    assert!(error.to_string().contains("254 of 256 slots free"), "{error}");
}

#[test]
fn a_job_is_a_span_from_its_submission_to_its_result() {
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(Model::default()));
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points = Points::from_bytes(&card, &vec![0; 64 * 100]).unwrap();
    let scalars = Scalars::from_bytes(&card, &vec![0; 32 * 100], ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&points, &scalars).unwrap();
    msm.set_label(7);
    let ((), log) = logged(|| {
        let ticket = msm.submit(&job).unwrap();
        msm.wait(ticket, LIMIT).unwrap();
    });
    let event = |text: &str| format!("job{{label=7 pairs=100}}: {text}");
    in_order(&log, &["submitted", "accepted", "result"].map(event).each_ref().map(String::as_str));
}
