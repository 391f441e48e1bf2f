//! A log that cannot be written. The subscriber is global, so this test has a process of its own.

#[path = "cards/common.rs"]
#[allow(dead_code)]
mod common;

use common::{Fixture, LIMIT, cpu, eventually, options, slow};
use std::io::{Sink, sink};
use std::thread;
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;
use xdma_cards::{Scalars, SumError};
use xdma_emulated_card::emulator::faults::Kind;

/// Panics at each event of `xdma_cards`, as `tracing_subscriber::fmt` does if standard error is a pipe that was closed.
struct BrokenPipe;

impl<'a> MakeWriter<'a> for BrokenPipe {
    type Writer = Sink;

    fn make_writer(&'a self) -> Sink {
        sink()
    }

    fn make_writer_for(&'a self, event: &tracing::Metadata<'_>) -> Sink {
        assert!(!event.target().starts_with("xdma_cards"), "this panic is part of the test");
        sink()
    }
}

#[test]
fn a_log_that_panics_loses_no_part() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(BrokenPipe).init();
    let fixture = Fixture::new(vec![slow(4000.0); 2], 4000, options());
    let scalars = Scalars::from_fr(fixture.scalars.clone());
    let sum_without = |card: usize| {
        let mut pending = fixture.cards.submit(&fixture.bases, 0, &scalars, 0..4000).unwrap();
        thread::sleep(Duration::from_millis(150));
        fixture.emulated[card].inject(Kind::LinkDown).unwrap();
        pending.wait(LIMIT)
    };
    assert!(sum_without(1).unwrap().point == cpu(&fixture.points, &fixture.scalars));
    eventually("a card without a thread is in service", || fixture.in_service() == [0]);
    let error = sum_without(0).unwrap_err();
    assert!(matches!(error, SumError::NoCardLeft { .. }), "{error}");
}
