//! Channels that were stopped, or could not be stopped, and what they report afterwards.

use crate::rig::{LEN, LIMIT, Rig, is_gone, is_hung};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma::channel::{ChannelOptions, EngineError, Poll, PollError, Ring, SubmitError, WaitError};
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma_emulator::faults::{FaultDuration, Kind};
use xdma_emulator::logic::Memory;
use xdma_emulator::{EmulatedCard, EmulatorOptions, Switches};

const RINGS: [Ring; 2] = [Ring::Chain, Ring::Credits];

/// The engine hangs for longer than the idle limit.
#[test]
fn after_a_stop_that_failed_no_job_starts_until_a_recovery() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.pair_works(0);
        rig.inject(Kind::AxiHang(FaultDuration::Millis(1500)).on(Direction::H2C, 0));
        let first = rig.channel(Direction::H2C).submit().unwrap();
        let second = rig.channel(Direction::H2C).submit().unwrap();
        while rig.injected("AxiHang") == 0 {
            std::thread::yield_now();
        }
        let h2c = rig.channel(Direction::H2C);
        is_hung(h2c.channel.stop());
        let doorbells = h2c.channel.stats().doorbells;
        let refused = h2c.submit().unwrap_err();
        assert!(matches!(refused, SubmitError::Engine(EngineError::Stopped)), "{ring}: {refused}");
        let begin = Instant::now();
        while let Err(error) = h2c.channel.recover() {
            assert!(matches!(error, EngineError::Hung { .. }) && begin.elapsed() < LIMIT, "{ring}: {error}");
            for ticket in [first, second] {
                let _ = h2c.channel.poll(ticket);
            }
            assert_eq!(h2c.channel.stats().doorbells, doorbells, "{ring}");
        }
        for ticket in [first, second] {
            let ended = h2c.channel.poll(ticket);
            let is_stopped = matches!(ended, Err(PollError::Engine(EngineError::Stopped)));
            assert!(is_stopped || matches!(ended, Ok(Poll::Ready)), "{ring}: {ended:?}");
        }
        assert_eq!(h2c.channel.ring(), ring);
        rig.works();
        rig.end();
    }
}

/// The engine reports an error, and cannot be stopped.
#[test]
fn a_poll_reports_the_failure_of_an_engine_that_stays_busy() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.inject(Kind::StatusStuck(Status::WRITE_SLAVE_ERROR.bits()).on(Direction::H2C, 0));
        rig.inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::H2C, 0));
        let h2c = rig.channel(Direction::H2C);
        let ticket = h2c.submit().unwrap();
        let failed = h2c.channel.check().unwrap_err();
        assert!(matches!(failed, EngineError::Failed { .. }), "{ring}: {failed}");
        let polled = h2c.channel.poll(ticket);
        assert!(matches!(polled, Err(PollError::Engine(EngineError::Failed { .. }))), "{ring}: {polled:?}");
    }
}

#[test]
fn a_stopped_channel_is_settled() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.pair_works(0);
        let h2c = rig.channel(Direction::H2C);
        h2c.channel.settle(LIMIT).unwrap();
        h2c.channel.stop().unwrap();
        h2c.channel.settle(LIMIT).unwrap();
        rig.works();
        rig.channel(Direction::H2C).channel.settle(LIMIT).unwrap();
        rig.end();
    }
}

/// An engine that is still busy ignores the start of a chain, and its count register still shows the count of the one before.
#[test]
fn a_chain_that_never_ran_is_not_reported_as_finished() {
    let switches = Switches { busy_lag_us: 1_000_000.into(), ..Switches::default() };
    let options = EmulatorOptions::default().with_switches(switches);
    let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let options = ChannelOptions { ring: Some(Ring::Chain), check_idle: false, ..Default::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    h2c.transfer(&source, 0..LEN, 0, LIMIT).unwrap();
    let ticket = h2c.submit(&source, 0..LEN, LEN).unwrap();
    let waited = h2c.wait(ticket, Duration::from_secs(2));
    assert!(matches!(waited, Err(WaitError::Deadline { .. })), "{waited:?}");
    h2c.recover().unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    h2c.transfer(&source, 0..LEN, LEN, LIMIT).unwrap();
}

#[test]
fn a_stop_while_the_link_is_down_does_not_hide_the_reset() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.inject(Kind::LinkDown);
        let h2c = rig.channel(Direction::H2C);
        is_gone(h2c.channel.stop().map_err(WaitError::from));
        let refused = h2c.submit().unwrap_err();
        assert!(matches!(refused, SubmitError::Engine(EngineError::Stopped)), "{ring}: {refused}");
        rig.inject(Kind::LinkUp);
        rig.card.recover().unwrap();
        rig.recover_all();
        rig.works();
        rig.end();
    }
}

#[test]
fn a_channel_that_is_stopped_after_a_reset_reports_the_reset() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.card.recover().unwrap();
        let h2c = rig.channel(Direction::H2C);
        h2c.channel.stop().unwrap();
        let refused = h2c.submit().unwrap_err();
        assert!(matches!(refused, SubmitError::Engine(EngineError::Reset { .. })), "{ring}: {refused}");
        rig.recover_all();
        rig.works();
        rig.end();
    }
}
