//! The ways of waiting.

use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma::channel::{ChannelOptions, EngineError, Pool, PoolError, Ring, Wait, WaitError};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma::regs::msm::SCALAR_WINDOW;
use xdma::unstable::bus::counts::Counts;
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_emulator::{EmulatorOptions, Latency, Switches};
use xdma_testkit::bench::{Bench, LIMIT, assert_few_missed, pattern};

fn options(wait: Wait, ring: Ring) -> ChannelOptions {
    ChannelOptions { wait, ring: Some(ring), ..ChannelOptions::default() }
}

#[test]
fn no_completion_is_lost_and_no_wait_oversleeps() {
    // Completions occur before, while and after the waiting thread goes to sleep.
    let latency = Latency { fetch: Duration::from_micros(100), completion: Duration::from_micros(200) };
    let bench = Bench::memory(EmulatorOptions { latency, ..EmulatorOptions::default() });
    let card = bench.open();
    let data = pattern(5000, 9);
    for wait in Wait::ALL {
        for ring in [Ring::Chain, Ring::Credits] {
            let mut h2c = card.channel(Direction::H2C, 2, options(wait, ring)).unwrap();
            let mut c2h = card.channel(Direction::C2H, 2, options(wait, ring)).unwrap();
            let mut source = card.allocate(5000, Direction::H2C).unwrap();
            source.write(0, &data).unwrap();
            let sink = card.allocate(5000, Direction::C2H).unwrap();
            for _ in 0..40 {
                h2c.transfer(&source, 0..5000, 0x11, LIMIT).unwrap();
                c2h.transfer(&sink, 0..5000, 0x11, LIMIT).unwrap();
            }
            assert_few_missed([&h2c, &c2h]);
            let mut seen = vec![0; 5000];
            sink.read(0, &mut seen).unwrap();
            assert!(seen == data, "{wait} {ring}");
        }
    }
}

/// Completions are late enough for each wait to read the clock.
#[test]
fn the_limit_may_be_the_maximum_duration() {
    let latency = Latency { completion: Duration::from_millis(5), ..Latency::NONE };
    let bench = Bench::memory(EmulatorOptions { latency, ..EmulatorOptions::default() });
    let card = bench.try_open(CardOptions { idle_limit: Duration::MAX, ..CardOptions::default() }).unwrap();
    let source = card.allocate(4096, Direction::H2C).unwrap();
    for wait in Wait::ALL {
        let mut h2c = card.channel(Direction::H2C, 0, options(wait, Ring::Chain)).unwrap();
        for _ in 0..5 {
            h2c.transfer(&source, 0..4096, 0, Duration::MAX).unwrap();
        }
        h2c.settle(Duration::MAX).unwrap();
        let mut pool =
            Pool::new(vec![h2c, card.channel(Direction::H2C, 1, options(wait, Ring::Chain)).unwrap()])
                .unwrap();
        pool.transfer(&source, 0..4096, 0, Duration::MAX).unwrap();
    }
}

#[test]
fn a_deadline_and_a_failure_end_each_wait() {
    let bench =
        Bench::new(EmulatorOptions::default(), Design::Msm(Model { watchdog: 0, ..Model::default() }));
    for wait in Wait::ALL {
        let card = bench.open();
        let mut h2c = card.channel(Direction::H2C, 0, options(wait, Ring::Chain)).unwrap();
        let source = card.allocate(1 << 20, Direction::H2C).unwrap();
        // Scalars without points: the FIFO fills up, and the engine waits forever.
        let ticket = h2c.submit(&source, 0..1 << 20, SCALAR_WINDOW).unwrap();
        let begin = Instant::now();
        let error = h2c.wait(ticket, Duration::from_millis(30)).unwrap_err();
        assert!(matches!(error, WaitError::Deadline { .. }), "{wait}: {error}");
        assert!(begin.elapsed() >= Duration::from_millis(30), "{wait}");
        let user = card.user().unwrap();
        let flush = xdma::regs::msm::Ctrl::ABORT | xdma::regs::msm::Ctrl::FLUSH;
        h2c.recover_with(&mut || user.write(xdma::regs::msm::CTRL, flush.bits()).unwrap()).unwrap();
        // There is nothing at this address.
        let ticket = h2c.submit(&source, 0..64, 1 << 60).unwrap();
        let error = h2c.wait(ticket, LIMIT).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{wait}: {error}");
    }
}

/// The pool waits until the last of its channels has finished.
#[test]
fn a_pool_waits_as_its_channels_do() {
    let latency = Latency { fetch: Duration::from_micros(100), completion: Duration::from_micros(200) };
    let bench = Bench::memory(EmulatorOptions { latency, ..EmulatorOptions::default() });
    let card = bench.open();
    let data = pattern(400_000, 3);
    let mut source = card.allocate(400_000, Direction::H2C).unwrap();
    source.write(0, &data).unwrap();
    let sink = card.allocate(400_000, Direction::C2H).unwrap();
    let pool = |direction, wait, ring| {
        Pool::new((0..3).map(|at| card.channel(direction, at, options(wait, ring)).unwrap()).collect())
            .unwrap()
    };
    for (wait, ring) in [Ring::Chain, Ring::Credits].into_iter().flat_map(|r| Wait::ALL.map(|w| (w, r))) {
        let (mut h2c, mut c2h) = (pool(Direction::H2C, wait, ring), pool(Direction::C2H, wait, ring));
        let sleeps = |pool: &Pool| pool.channels().map(|channel| channel.stats().sleeps).sum::<u64>();
        let before = sleeps(&h2c);
        for round in 0..20 {
            // Queued chains are started while the thread sleeps. Small transfers alternate between the channels.
            let all: Vec<_> = (0..4).map(|_| h2c.submit(&source, 0..400_000, 0x11).unwrap()).collect();
            let small = h2c.submit(&source, 0..round + 1, 0x11).unwrap();
            h2c.wait(small, LIMIT).unwrap();
            all.into_iter().for_each(|ticket| h2c.wait(ticket, LIMIT).unwrap());
            c2h.transfer(&sink, 0..400_000, 0x11, LIMIT).unwrap();
        }
        assert_few_missed(h2c.channels().chain(c2h.channels()));
        assert_eq!(sleeps(&h2c) > before, wait.sleeps(), "{wait} {ring}");
        let mut seen = vec![0; 400_000];
        sink.read(0, &mut seen).unwrap();
        assert!(seen == data, "{wait} {ring}");
    }
    let mixed = [Wait::Spin, Wait::Hybrid].map(|wait| options(wait, Ring::Chain));
    let mixed =
        mixed.iter().enumerate().map(|(at, options)| card.channel(Direction::H2C, at, *options).unwrap());
    assert!(matches!(Pool::new(mixed.collect()), Err(PoolError)));
}

#[test]
fn a_sleeping_wait_makes_few_system_calls() {
    let model = Model { pairs_per_second: Some(40_000.0), ..Model::default() };
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(model));
    let card = bench.open();
    let channel = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let mut msm = Msm::open(&card, MsmOptions { channel, ..MsmOptions::default() }).unwrap();
    let points = Points::allocate(&card, 4000).unwrap();
    let scalars = Scalars::allocate(&card, 4000, ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&points, &scalars).unwrap();
    // The core needs 100 ms, or more on a busy machine.
    let (before, begin) = (Counts::now(), Instant::now());
    let ticket = msm.submit(&job).unwrap();
    msm.wait(ticket, LIMIT).unwrap();
    let (calls, took) = ((Counts::now() - before).system_calls, begin.elapsed());
    // A sleep takes one or two calls, and over vfio-user the register accesses around it are calls as well. A wait that yields
    // would make one call per microsecond.
    assert!(u128::from(calls) < 100 + 10 * took.as_millis(), "{calls} calls in {took:?}");
}

/// The engine writes back before it is idle, and only an idle engine can be started. No interrupt reports when it becomes idle.
#[test]
fn queued_chains_start_soon_after_an_engine_that_stays_busy_is_idle() {
    const CHAINS: u32 = 50;
    let switches = Switches { busy_lag_us: 200.into(), ..Switches::default() };
    let bench = Bench::memory(
        EmulatorOptions { latency: Latency::NONE, ..EmulatorOptions::default() }.with_switches(switches),
    );
    let card = bench.open();
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let mut h2c = card.channel(Direction::H2C, 0, options(Wait::Interrupt, Ring::Chain)).unwrap();
    let mut run = || {
        let begin = Instant::now();
        for _ in 0..CHAINS {
            h2c.submit(&source, 0..4096, 0).unwrap();
        }
        let last = h2c.last_ticket().unwrap();
        h2c.wait(last, LIMIT).unwrap();
        begin.elapsed()
    };
    // A sleep without an interrupt ends after 10 ms. Several attempts, because a busy machine is late, too.
    let took: Vec<_> = (0..5).map(|_| run()).collect();
    assert!(took.iter().any(|took| *took < Duration::from_millis(5) * CHAINS), "{took:?}");
}

#[test]
fn each_wait_works_again_after_a_recovery() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    for wait in Wait::ALL {
        let mut h2c = card.channel(Direction::H2C, 0, options(wait, Ring::Chain)).unwrap();
        let source = card.allocate(64, Direction::H2C).unwrap();
        h2c.transfer(&source, 0..64, 1 << 60, LIMIT).unwrap_err();
        h2c.recover().unwrap();
        h2c.transfer(&source, 0..64, 0, LIMIT).unwrap();
    }
}
