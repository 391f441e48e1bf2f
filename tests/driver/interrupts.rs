//! Interrupts of channels and of the user logic, through eventfds.

use std::time::Duration;
use xdma::card::{InterruptError, Source};
use xdma::channel::{ChannelOptions, EngineError, Poll, PollError, Ring, Wait};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::{Direction, msm};
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT, cards, pattern};

/// Time to wait for an interrupt that should not arrive.
const A_WHILE: Duration = Duration::from_millis(50);

#[test]
fn a_channel_interrupts_for_each_transfer() {
    for (card, ring) in cards().into_iter().zip([Ring::Credits, Ring::Chain]) {
        let bench = Bench::memory(EmulatorOptions { card, ..EmulatorOptions::default() });
        let card = bench.open();
        for direction in [Direction::H2C, Direction::C2H] {
            let options = ChannelOptions { ring: Some(ring), interrupt: true, ..ChannelOptions::default() };
            let mut channel = card.channel(direction, 1, options).unwrap();
            let interrupt = card.interrupt(Source::Channel(direction, 1)).unwrap();
            let buffer = card.allocate(5000, direction).unwrap();
            for round in 0..3 {
                channel.rearm_interrupt().unwrap();
                let ticket = channel.submit(&buffer, 0..5000, 0x40).unwrap();
                assert!(interrupt.wait(LIMIT).unwrap() > 0, "{direction} {ring} round {round}");
                channel.wait(ticket, LIMIT).unwrap();
                interrupt.take();
            }
            channel.rearm_interrupt().unwrap();
            interrupt.take();
            assert_eq!(interrupt.wait(A_WHILE).unwrap(), 0, "no event occurred");
        }
    }
}

#[test]
fn a_channel_that_polls_does_not_interrupt() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let options = ChannelOptions { wait: Wait::Spin, ..ChannelOptions::default() };
    let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
    let interrupt = card.interrupt(Source::Channel(Direction::H2C, 0)).unwrap();
    let buffer = card.allocate(64, Direction::H2C).unwrap();
    channel.transfer(&buffer, 0..64, 0, LIMIT).unwrap();
    assert_eq!(interrupt.wait(A_WHILE).unwrap(), 0);
}

#[test]
fn a_failure_interrupts_and_is_not_lost_by_rearming() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let options = ChannelOptions { ring: Some(Ring::Chain), interrupt: true, ..ChannelOptions::default() };
    let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
    let interrupt = card.interrupt(Source::Channel(Direction::H2C, 0)).unwrap();
    let buffer = card.allocate(64, Direction::H2C).unwrap();
    // This address is beyond the card's memory.
    let ticket = channel.submit(&buffer, 0..64, 1 << 60).unwrap();
    assert!(interrupt.wait(LIMIT).unwrap() > 0);
    match channel.rearm_interrupt() {
        Err(EngineError::Failed { snapshot }) => {
            assert!(snapshot.to_string().contains("decode error"), "{snapshot}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(channel.poll(ticket), Err(PollError::Engine(EngineError::Failed { .. }))));
    channel.recover().unwrap();
    let ticket = channel.submit(&buffer, 0..64, 0).unwrap();
    assert!(interrupt.wait(LIMIT).unwrap() > 0);
    channel.wait(ticket, LIMIT).unwrap();
    assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready);
}

#[test]
fn the_msm_design_interrupts_when_a_result_is_available() {
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(Model::default()));
    let card = bench.open();
    let interrupt = card.interrupt(Source::User(0)).unwrap();
    let user = card.user().unwrap();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points = Points::allocate(&card, 2).unwrap();
    let scalars = Scalars::allocate(&card, 2, ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&points, &scalars).unwrap();
    user.write(msm::IRQ_ENABLE, !0).unwrap();
    let ticket = msm.submit(&job).unwrap();
    assert!(interrupt.wait(LIMIT).unwrap() > 0);
    msm.wait(ticket, LIMIT).unwrap();
    let cause = user.read(msm::IRQ_STATUS).unwrap();
    assert_ne!(cause, 0);
    user.write(msm::IRQ_STATUS, cause).unwrap();
    // After line 0 was disabled, the next result does not interrupt on another line.
    drop(interrupt);
    let other = card.interrupt(Source::User(1)).unwrap();
    let ticket = msm.submit(&job).unwrap();
    msm.wait(ticket, LIMIT).unwrap();
    assert_eq!(other.wait(A_WHILE).unwrap(), 0);
}

#[test]
fn interrupts_work_again_after_a_reset() {
    let bench = Bench::memory(EmulatorOptions::default().with_function_reset(true));
    let card = bench.open();
    let options = ChannelOptions { interrupt: true, ..ChannelOptions::default() };
    let mut channel = card.channel(Direction::H2C, 3, options).unwrap();
    let source = Source::Channel(Direction::H2C, 3);
    drop(card.interrupt(source).unwrap());
    card.reset().unwrap();
    channel.recover().unwrap();
    let interrupt = card.interrupt(source).unwrap();
    let data = pattern(64, 1);
    let mut buffer = card.allocate(64, Direction::H2C).unwrap();
    buffer.write(0, &data).unwrap();
    let ticket = channel.submit(&buffer, 0..64, 0).unwrap();
    assert!(interrupt.wait(LIMIT).unwrap() > 0);
    channel.wait(ticket, LIMIT).unwrap();
}

#[test]
fn missing_interrupt_sources_are_refused() {
    let bench = Bench::memory(EmulatorOptions::default().with_channels(1, 3));
    let card = bench.open();
    for source in [Source::User(16), Source::Channel(Direction::H2C, 1), Source::Channel(Direction::C2H, 9)] {
        let error = card.interrupt(source).unwrap_err();
        assert!(matches!(error, InterruptError::NoSource(_)));
        assert!(error.to_string().contains("user lines are 0 to 15"), "{error}");
    }
}
