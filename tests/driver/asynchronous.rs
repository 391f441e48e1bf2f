//! Asynchronous waiting for transfers, packets, results and user interrupts. All tasks run on one thread, so a wait that blocked it
//! would block all of them.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use xdma::card::Source;
use xdma::channel::stream::ReceiverOptions;
use xdma::channel::{ChannelOptions, EngineError, Poll, Pool, Ring, TransferError, Wait, WaitError};
use xdma::memory::MemoryError;
use xdma::msm::{JobError, Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::{Direction, msm};
use xdma_emulator::faults::Kind;
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_emulator::{EmulatorOptions, Latency, Switches};
use xdma_testkit::bench::{Bench, LIMIT, assert_few_missed, pattern};

/// Time to wait for an event that should not occur.
const A_WHILE: Duration = Duration::from_millis(30);
const RINGS: [Ring; 2] = [Ring::Chain, Ring::Credits];

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Yields to other tasks this number of times.
async fn yields(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

fn options(ring: Ring) -> ChannelOptions {
    ChannelOptions { wait: Wait::Interrupt, ring: Some(ring), ..ChannelOptions::default() }
}

#[test]
fn a_sum_can_be_awaited_with_default_options() {
    let (bench, _) = msm_bench();
    let card = bench.open();
    let mut client = Msm::open(&card, MsmOptions::default()).unwrap();
    let points = Points::allocate(&card, 64).unwrap();
    let scalars = Scalars::allocate(&card, 64, ScalarForm::Canonical).unwrap();
    let job = client.prepare(&points, &scalars).unwrap();
    let ticket = client.submit(&job).unwrap();
    block_on(client.wait_async(ticket, LIMIT)).unwrap();
}

#[test]
fn channels_and_pools_can_be_awaited_with_default_options() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let source = card.allocate(64, Direction::H2C).unwrap();
    let mut channel = card.h2c(0).unwrap();
    block_on(channel.transfer_async(&source, 0..64, 0, LIMIT)).unwrap();
    let mut pool = Pool::new(vec![card.h2c(1).unwrap(), card.h2c(2).unwrap()]).unwrap();
    let ticket = pool.submit(&source, 0..64, 0).unwrap();
    block_on(pool.wait_async(ticket, LIMIT)).unwrap();
}

#[test]
fn transfers_are_awaited_and_no_wake_up_is_lost() {
    // Completions occur before, while and after the task goes to sleep.
    let latency = Latency { fetch: Duration::from_micros(100), completion: Duration::from_micros(200) };
    let bench = Bench::memory(EmulatorOptions { latency, ..EmulatorOptions::default() });
    let card = bench.open();
    let data = pattern(5000, 9);
    for ring in RINGS {
        block_on(async {
            let mut h2c = card.channel(Direction::H2C, 1, options(ring)).unwrap();
            let mut c2h = card.channel(Direction::C2H, 1, options(ring)).unwrap();
            let mut source = card.allocate(5000, Direction::H2C).unwrap();
            source.write(0, &data).unwrap();
            let sink = card.allocate(5000, Direction::C2H).unwrap();
            for _ in 0..40 {
                h2c.transfer_async(&source, 0..5000, 0x11, LIMIT).await.unwrap();
                c2h.transfer_async(&sink, 0..5000, 0x11, LIMIT).await.unwrap();
            }
            assert_few_missed([&h2c, &c2h]);
            let mut seen = vec![0; 5000];
            sink.read(0, &mut seen).unwrap();
            assert!(seen == data, "{ring}");
        });
    }
}

/// A forgotten future stays registered forever. Later waits must still be woken.
#[test]
fn a_forgotten_wait_does_not_affect_the_next() {
    let latency = Latency { fetch: Duration::from_micros(100), completion: Duration::from_millis(5) };
    let bench = Bench::memory(EmulatorOptions { latency, ..EmulatorOptions::default() });
    let card = bench.open();
    let source = card.allocate(5000, Direction::H2C).unwrap();
    let mut h2c = card.channel(Direction::H2C, 0, options(Ring::Chain)).unwrap();
    let mut line = card.interrupt(Source::User(1)).unwrap();
    block_on(async {
        let (mut forgotten, mut rounds) = (0, 0);
        while forgotten < 3 {
            let ticket = h2c.submit(&source, 0..5000, 0).unwrap();
            let mut wait = Box::pin(h2c.wait_async(ticket, LIMIT));
            rounds += 1;
            if wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                // On a busy machine, the transfer may finish before the first poll, but not every time.
                assert!(rounds < 100);
                continue;
            }
            forgotten += 1;
            std::mem::forget(wait);
            h2c.wait_async(ticket, LIMIT).await.unwrap();
            let mut fired = Box::pin(line.wait_async(LIMIT));
            assert!(fired.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            std::mem::forget(fired);
            assert_eq!(line.wait_async(A_WHILE).await.unwrap(), 0);
        }
    });
}

#[test]
fn pools_can_be_awaited() {
    let latency = Latency { fetch: Duration::from_micros(100), completion: Duration::from_micros(200) };
    let bench = Bench::memory(EmulatorOptions { latency, ..EmulatorOptions::default() });
    let card = bench.open();
    let source = card.allocate(400_000, Direction::H2C).unwrap();
    for ring in RINGS {
        let open = |at| card.channel(Direction::H2C, at, options(ring)).unwrap();
        let mut pool = Pool::new((0..3).map(open).collect()).unwrap();
        block_on(async {
            for _ in 0..20 {
                let tickets = [(); 3].map(|()| pool.submit(&source, 0..400_000, 0).unwrap());
                // Dropping the future loses nothing.
                let _ = timeout(Duration::from_micros(50), pool.wait_async(tickets[2], LIMIT)).await;
                for ticket in tickets {
                    pool.wait_async(ticket, LIMIT).await.unwrap();
                }
            }
            assert_few_missed(pool.channels());
            let ticket = pool.submit(&source, 0..64, 1 << 60).unwrap();
            let failed = pool.wait_async(ticket, LIMIT).await.unwrap_err();
            assert!(matches!(failed.engine(), Some(EngineError::Failed { .. })), "{ring}: {failed}");
        });
    }
    let mut poller = Pool::new(vec![card.h2c(0).unwrap()]).unwrap();
    let ticket = poller.submit(&source, 0..400_000, 0).unwrap();
    let waited = block_on(poller.wait_async(ticket, LIMIT));
    assert!(matches!(waited, Err(WaitError::NoInterrupt) | Ok(())), "{waited:?}");
}

#[test]
fn dropping_a_future_loses_nothing() {
    let latency = Latency { fetch: Duration::from_micros(300), completion: Duration::from_micros(300) };
    let bench = Bench::memory(EmulatorOptions { latency, ..EmulatorOptions::default() });
    let card = bench.open();
    for ring in RINGS {
        block_on(async {
            let mut h2c = card.channel(Direction::H2C, 0, options(ring)).unwrap();
            let mut source = card.allocate(64, Direction::H2C).unwrap();
            let (mut dropped, before) = (0, h2c.stats().bytes);
            for round in 0..60 {
                // The future is dropped early or late in its sleep, or once it is ready.
                tokio::select! {
                    biased;
                    done = h2c.transfer_async(&source, 0..64, 64 * round, LIMIT) => done.unwrap(),
                    () = yields(round % 20 * 10) => dropped += 1,
                }
                let ticket = h2c.last_ticket().unwrap();
                if h2c.poll(ticket).unwrap() == Poll::Pending {
                    let error = source.write(0, &[round; 8]).unwrap_err();
                    assert!(matches!(error, MemoryError::InFlight(1)), "{error}");
                }
                h2c.wait_async(ticket, LIMIT).await.unwrap();
                assert_eq!(h2c.in_flight(), 0);
                source.write(0, &[round; 8]).unwrap();
            }
            assert!(dropped > 0, "{ring}");
            assert_eq!(h2c.stats().bytes - before, 60 * 64, "{ring}");
        });
    }
}

/// A deadline, a failure, and waits that are impossible.
#[test]
fn errors_end_an_asynchronous_wait() {
    let bench =
        Bench::new(EmulatorOptions::default(), Design::Msm(Model { watchdog: 0, ..Model::default() }));
    let card = bench.open();
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    let mut h2c = card.channel(Direction::H2C, 0, options(Ring::Chain)).unwrap();
    // Scalars without points: the FIFO fills up, and the engine waits forever.
    let ticket = h2c.submit(&source, 0..1 << 20, msm::SCALAR_WINDOW).unwrap();
    block_on(async {
        let error = h2c.wait_async(ticket, A_WHILE).await.unwrap_err();
        assert!(matches!(error, WaitError::Deadline { .. }), "{error}");
        assert!(error.to_string().contains("H2C channel 0: busy"), "{error}");
    });
    let mut context = Context::from_waker(Waker::noop());
    let outside = pin!(h2c.wait_async(ticket, LIMIT)).poll(&mut context);
    assert!(matches!(outside, std::task::Poll::Ready(Err(WaitError::Sleep(_)))), "{outside:?}");
    let (user, flush) = (card.user().unwrap(), msm::Ctrl::ABORT | msm::Ctrl::FLUSH);
    h2c.recover_with(&mut || user.write(msm::CTRL, flush.bits()).unwrap()).unwrap();
    // An error causes an interrupt, too. If that is lost, the status register shows the error.
    for lost in [false, true] {
        if lost {
            bench.inject(Kind::InterruptLost.on(Direction::H2C, 0));
        }
        bench.inject(Kind::BadMagic.on(Direction::H2C, 0));
        let error = block_on(h2c.transfer_async(&source, 0..64, 0x5000_0000, LIMIT)).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
        h2c.recover().unwrap();
    }
    let spin = ChannelOptions { wait: Wait::Spin, ..ChannelOptions::default() };
    let mut polled = card.channel(Direction::H2C, 1, spin).unwrap();
    bench.inject(Kind::AxiHang(xdma_emulator::faults::FaultDuration::Millis(50)).on(Direction::H2C, 1));
    let error = block_on(polled.transfer_async(&source, 0..64, 0x5000_0000, LIMIT)).unwrap_err();
    assert!(matches!(error, TransferError::Wait(WaitError::NoInterrupt)), "{error}");
    assert!(error.to_string().contains("`ChannelOptions::wait` set to `Wait::Hybrid`"), "{error}");
}

#[test]
fn one_thread_sends_and_receives_packets() {
    let switches = Switches { stop_ends_idle_stream: true.into(), ..Switches::default() };
    let bench =
        Bench::new(EmulatorOptions::default().with_streams().with_switches(switches), Design::Loopback);
    let card = bench.open();
    for ring in RINGS {
        let channel = options(ring);
        let mut sender = card.stream_h2c(2, channel).unwrap();
        let buffers = ReceiverOptions { channel, buffers: 3, bytes: 1024, ..ReceiverOptions::default() };
        let mut receiver = card.stream_c2h(2, buffers).unwrap();
        // Sender and receiver wait for each other, since the card's FIFO holds only a part of the packet.
        let data = pattern(300_000, 5);
        let mut buffer = card.allocate(300_000, Direction::H2C).unwrap();
        buffer.write(0, &data).unwrap();
        let ticket = sender.send(&buffer, 0..300_000).unwrap();
        let receive = async {
            let mut seen = vec![];
            loop {
                // Timing out loses nothing.
                let Ok(received) = timeout(Duration::from_millis(1), receiver.wait_async(LIMIT)).await else {
                    continue;
                };
                let received = received.unwrap();
                let start = seen.len();
                seen.resize(start + received.len(), 0);
                receiver.read(&received, 0, &mut seen[start..]).unwrap();
                let ends = received.ends_packet();
                receiver.recycle(received).unwrap();
                if ends {
                    return seen;
                }
            }
        };
        let (sent, seen) = block_on(async { tokio::join!(sender.wait_async(ticket, LIMIT), receive) });
        sent.unwrap();
        assert!(seen == data, "{ring}");
    }
}

/// Returns a card with the MSM design, and options for a client that sleeps.
fn msm_bench() -> (Bench, MsmOptions) {
    let options = MsmOptions { channel: options(Ring::Chain), ..MsmOptions::default() };
    // 2,000 pairs take 10 ms.
    let model = Model { pairs_per_second: Some(200_000.0), ..Model::default() };
    (Bench::new(EmulatorOptions::default(), Design::Msm(model)), options)
}

#[test]
fn results_are_awaited_while_other_tasks_run() {
    let (bench, options) = msm_bench();
    let card = bench.open();
    let mut client = Msm::open(&card, options).unwrap();
    let points = Points::allocate(&card, 2000).unwrap();
    let scalars = Scalars::allocate(&card, 2000, ScalarForm::Canonical).unwrap();
    let job = client.prepare(&points, &scalars).unwrap();
    block_on(async {
        let mut ticks = 0;
        for round in 0..5 {
            let first = client.submit(&job).unwrap();
            let second = client.submit(&job).unwrap();
            let ticking = async {
                loop {
                    ticks += 1;
                    tokio::task::yield_now().await;
                }
            };
            // If the wait is cancelled, the job continues.
            let _ = timeout(Duration::from_millis(3 * round), client.wait_async(first, LIMIT)).await;
            let output = tokio::select! {
                output = client.wait_async(second, LIMIT) => output.unwrap(),
                () = ticking => unreachable!("this task never ends"),
            };
            assert_eq!(output.label, 2 * round as u32 + 1);
        }
        // On a busy machine, some results are available before the wait.
        assert!(ticks > 5, "another task ran only {ticks} times meanwhile");
        let late = client.submit(&job).unwrap();
        let error = client.wait_async(late, Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, JobError::Deadline { .. }), "{error}");
        client.wait_async(late, LIMIT).await.unwrap();
    });
}

#[test]
fn a_user_interrupt_can_be_awaited_polled_and_waited_for() {
    let (bench, options) = msm_bench();
    let card = bench.open();
    let user = card.user().unwrap();
    // The client polls its jobs, so that it does not consume the interrupts of this test.
    let options = MsmOptions { channel: ChannelOptions { wait: Wait::Spin, ..options.channel }, ..options };
    let mut client = Msm::open(&card, options).unwrap();
    let mut interrupt = card.interrupt(Source::User(0)).unwrap();
    let points = Points::allocate(&card, 64).unwrap();
    let scalars = Scalars::allocate(&card, 64, ScalarForm::Canonical).unwrap();
    let job = client.prepare(&points, &scalars).unwrap();
    user.write(msm::IRQ_ENABLE, !0).unwrap();
    let mut round = || {
        user.write(msm::IRQ_STATUS, !0).unwrap();
        let ticket = client.submit(&job).unwrap();
        client.wait(ticket, LIMIT).unwrap();
    };
    // Clear interrupts of an earlier user of the card.
    user.write(msm::IRQ_STATUS, !0).unwrap();
    while interrupt.wait(A_WHILE).unwrap() > 0 {}
    assert_eq!(interrupt.take(), 0);
    round();
    assert!(interrupt.wait(LIMIT).unwrap() > 0);
    round();
    let begin = Instant::now();
    while interrupt.take() == 0 {
        assert!(begin.elapsed() < LIMIT, "no interrupt arrived");
    }
    // On a shared vector, an interrupt that is taken before it is acknowledged fires once more.
    user.write(msm::IRQ_STATUS, !0).unwrap();
    interrupt.take();
    block_on(async {
        assert_eq!(interrupt.wait_async(A_WHILE).await.unwrap(), 0);
        // No wait is active when the interrupt arrives.
        drop(timeout(Duration::from_millis(1), interrupt.wait_async(LIMIT)).await);
        round();
        assert!(interrupt.wait_async(LIMIT).await.unwrap() > 0);
        assert_eq!(interrupt.wait_async(Duration::ZERO).await.unwrap(), 0);
    });
}
