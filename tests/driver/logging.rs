//! What the library tells through `tracing`, and when it is silent.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;
use tracing_subscriber::filter::LevelFilter;
use xdma::channel::{ChannelOptions, EngineError, Ring, Transfers};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::Options;
use xdma_emulator::faults::{BadCompletion, Kind};
use xdma_emulator::logic::{Design, MsmOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT};

thread_local! {
    /// What this thread was told, as long as somebody wants to know.
    static TOLD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Everything that `what` tells on this thread, a line each.
fn told_during<T>(what: impl FnOnce() -> T) -> (T, Vec<String>) {
    static LISTENING: Once = Once::new();
    // One subscriber for all threads: what one thread's own subscriber may hear is cached for all of them.
    LISTENING.call_once(|| {
        let subscriber =
            tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(|| ToThread);
        subscriber.without_time().with_target(false).with_ansi(false).init();
    });
    tracing::callsite::rebuild_interest_cache();
    TOLD.set(Some(vec![]));
    let result = what();
    let text = String::from_utf8(TOLD.take().unwrap()).unwrap();
    (result, text.lines().map(|line| line.trim().to_owned()).collect())
}

struct ToThread;

impl Write for ToThread {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        TOLD.with_borrow_mut(|told| told.iter_mut().for_each(|told| told.extend_from_slice(data)));
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The parts are found in lines that follow each other, others between them.
#[track_caller]
fn in_order(lines: &[String], parts: &[&str]) {
    let mut left = lines.iter();
    for part in parts {
        assert!(left.any(|line| line.contains(part)), "{part:?} is not there, or too early: {lines:#?}");
    }
}

#[test]
fn a_card_and_its_channels_tell_what_becomes_of_them() {
    let bench = Bench::memory(Options::default());
    let ((), told) = told_during(|| {
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
        "channel open direction=H2C channel=0 ring=",
        "program built direction=H2C channel=0 descriptors=1 bytes=4096 list=0x",
        "channel closes direction=H2C channel=0 submitted=1 completed=1 bytes=4096",
        "card closed card=",
        "unmapped iova=0x",
    ];
    in_order(&told, &parts);
}

#[test]
fn nothing_is_told_of_transfers() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    for ring in [Ring::Chain, Ring::Credits] {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
        let memory = card.allocate(4096, Direction::H2C).unwrap();
        let ((), told) = told_during(|| {
            for _ in 0..300 {
                h2c.submit(&memory, 0..64, 0).unwrap();
                h2c.transfer(&memory, 0..4096, 0, LIMIT).unwrap();
            }
        });
        assert_eq!(told, Vec::<String>::new(), "{ring}");
    }
}

#[test]
fn an_error_is_told_with_the_ring_and_recovery_as_a_span() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let options = ChannelOptions { ring: Some(Ring::Chain), ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let memory = card.allocate(4096, Direction::H2C).unwrap();
    bench.inject(Kind::Fetch(BadCompletion::UnsupportedRequest).on(Direction::H2C, 0));
    let (error, told) = told_during(|| {
        h2c.submit(&memory, 0..4096, 0).unwrap();
        let ticket = h2c.submit(&memory, 0..64, 0).unwrap();
        let error = h2c.wait(ticket, LIMIT).unwrap_err();
        h2c.recover().unwrap();
        error
    });
    in_order(
        &told,
        &[
            "channel error direction=H2C channel=0 error=the engine stopped",
            "recover{direction=H2C channel=0}: recovered",
        ],
    );
    let EngineError::Failed { snapshot } = &error else { panic!("{error}") };
    let ring = snapshot.ring.unwrap();
    assert_eq!((ring.in_flight, ring.waiting, ring.slots - ring.free), (2, 1, 2), "{error}");
    assert_eq!((ring.ends_with, ring.oldest), (Some(1), Some(snapshot.list)), "{error}");
    assert!(error.to_string().contains("254 of 256 slots free"), "{error}");
}

#[test]
fn a_job_is_a_span_from_its_submission_to_its_result() {
    let bench = Bench::new(Options::default(), Design::Msm(Model::default()));
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points = Points::from_bytes(&card, &vec![0; 64 * 100]).unwrap();
    let scalars = Scalars::from_bytes(&card, &vec![0; 32 * 100], ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&points, &scalars).unwrap();
    msm.set_label(7);
    let ((), told) = told_during(|| {
        let ticket = msm.submit(&job).unwrap();
        msm.wait(ticket, LIMIT).unwrap();
    });
    let of = |what: &str| format!("job{{label=7 pairs=100}}: {what}");
    in_order(&told, &["submitted", "accepted", "result"].map(of).each_ref().map(String::as_str));
}
