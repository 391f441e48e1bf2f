//! Faults between host and card: the driver's error for each, and the recovery.

use std::time::{Duration, Instant};
use xdma::card::{Card, CardError, CardOptions};
use xdma::channel::{Channel, ChannelOptions, CloseError, EngineError, Poll, Ring, TransferError};
use xdma::memory::Buffer;
use xdma::msm::{JobError, Msm, MsmOptions, MsmSubmitError, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::faults::{BadCompletion, Kind};
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT, pattern, reported};

const LEN: u64 = 5000;
/// PCIe completion errors, with the driver's text for a failed descriptor fetch and for a failed H2C read.
const COMPLETIONS: [(BadCompletion, &str, &str); 5] = [
    (BadCompletion::UnsupportedRequest, "descriptor fetch refused", "host memory read refused"),
    (BadCompletion::CompleterAbort, "descriptor fetch aborted", "host memory read aborted by its completer"),
    (BadCompletion::Parity, "parity error in a descriptor", "parity error in host data"),
    (BadCompletion::Poisoned, "a descriptor arrived poisoned", "host data arrived poisoned"),
    (BadCompletion::Unexpected, "unexpected completion of a fetch", "unexpected completion of a host read"),
];

/// A channel of each direction, with a buffer each.
struct Pair {
    h2c: Channel,
    c2h: Channel,
    source: Buffer,
    sink: Buffer,
}

impl Pair {
    fn new(card: &Card, ring: Ring) -> Self {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        Self {
            h2c: card.channel(Direction::H2C, 0, options).unwrap(),
            c2h: card.channel(Direction::C2H, 0, options).unwrap(),
            source: card.allocate(LEN, Direction::H2C).unwrap(),
            sink: card.allocate(LEN, Direction::C2H).unwrap(),
        }
    }

    /// Checks that data is sent and received correctly.
    fn works(&mut self, seed: u64) {
        let (data, mut seen) = (pattern(LEN as usize, seed), vec![0; LEN as usize]);
        self.source.write(0, &data).unwrap();
        self.h2c.transfer(&self.source, 0..LEN, 0x1003, LIMIT).unwrap();
        self.c2h.transfer(&self.sink, 0..LEN, 0x1003, LIMIT).unwrap();
        self.sink.read(0, &mut seen).unwrap();
        assert!(seen == data, "the data received differs from the data sent");
    }

    fn send(&mut self) -> TransferError {
        self.h2c.transfer(&self.source, 0..LEN, 0x1003, LIMIT).unwrap_err()
    }

    fn receive(&mut self) -> TransferError {
        self.c2h.transfer(&self.sink, 0..LEN, 0x1003, LIMIT).unwrap_err()
    }
}

const RINGS: [Ring; 2] = [Ring::Chain, Ring::Credits];

/// Returns the driver's texts for a bad completion.
fn texts(with: BadCompletion) -> [&'static str; 2] {
    let entry = COMPLETIONS.into_iter().find(|(known, ..)| *known == reported(with));
    let (_, fetch, read) = entry.expect("all completions are listed");
    [fetch, read]
}

#[track_caller]
fn failed(error: &TransferError, text: &str) {
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    assert!(error.to_string().contains(text), "{text:?} is not in: {error}");
}

/// The answer for a ticket never changes, and a finished transfer has its data, in whichever order and way the program asks.
#[test]
fn transfers_before_a_failure_are_finished_and_those_after_it_are_not() {
    const PART: u64 = 4096;
    let data = pattern(8 * PART as usize, 7);
    for (ring, failing) in
        [Ring::Chain, Ring::Credits].into_iter().flat_map(|ring| (0..8).map(move |at| (ring, at)))
    {
        for (polls, backwards) in [(false, false), (false, true), (true, false), (true, true)] {
            let bench = Bench::memory(EmulatorOptions::default());
            let card = bench.open();
            let mut source = card.allocate(8 * PART, Direction::H2C).unwrap();
            source.write(0, &data).unwrap();
            let mut h2c = card.h2c(0).unwrap();
            h2c.transfer(&source, 0..8 * PART, 0x1000, LIMIT).unwrap();
            bench.inject(Kind::AxiSlaveError.on(Direction::C2H, 0).after(failing));
            let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
            let mut c2h = card.channel(Direction::C2H, 0, options).unwrap();
            let sink = card.allocate(8 * PART, Direction::C2H).unwrap();
            let mut tickets = vec![];
            for at in 0..8 {
                let start = at * PART;
                match c2h.submit(&sink, start..start + PART, 0x1000 + start) {
                    Ok(ticket) => tickets.push((at, ticket)),
                    Err(error) => assert!(error.engine().is_some(), "{error}"),
                }
            }
            let mut finished = [false; 8];
            if backwards {
                tickets.reverse();
            }
            for (at, ticket) in tickets {
                let mut ask = || match polls {
                    true => loop {
                        match c2h.poll(ticket) {
                            // The engine may not have written the failure back.
                            Ok(Poll::Pending) => drop(c2h.check()),
                            answer => break answer.is_ok(),
                        }
                    },
                    false => c2h.wait(ticket, LIMIT).is_ok(),
                };
                let is_finished = ask();
                assert_eq!(is_finished, ask(), "{ring} {failing} {at} {polls} {backwards}");
                finished[at as usize] = is_finished;
                let mut seen = vec![0; PART as usize];
                sink.read(at * PART, &mut seen).unwrap();
                let start = (at * PART) as usize;
                assert!(!is_finished || seen == data[start..start + PART as usize], "{ring} {failing} {at}");
            }
            // The failure is in one of them, since the injection counts descriptors or requests.
            assert!(!finished[7] && finished.is_sorted_by(|a, b| a >= b), "{ring} {failing} {finished:?}");
        }
    }
}

#[test]
fn bad_completions_of_fetches() {
    for ring in RINGS {
        let bench = Bench::memory(EmulatorOptions::default());
        let mut pair = Pair::new(&bench.open(), ring);
        pair.works(0);
        for (seed, (with, ..)) in (1..).zip(COMPLETIONS) {
            let [text, _] = texts(with);
            let fetch = |direction| Kind::Fetch(with).on(direction, 0);
            bench.inject(fetch(Direction::H2C));
            failed(&pair.send(), text);
            failed(&pair.send(), text);
            pair.h2c.recover().unwrap();
            bench.inject(fetch(Direction::C2H));
            failed(&pair.receive(), text);
            pair.c2h.recover().unwrap();
            pair.works(seed);
        }
    }
}

#[test]
fn bad_completions_of_host_reads() {
    for ring in RINGS {
        let bench = Bench::memory(EmulatorOptions::default());
        let mut pair = Pair::new(&bench.open(), ring);
        for (seed, (with, ..)) in (1..).zip(COMPLETIONS) {
            let [_, text] = texts(with);
            bench.inject(Kind::HostRead(with).on(Direction::H2C, 0));
            failed(&pair.send(), text);
            pair.h2c.recover().unwrap();
            pair.works(seed);
        }
    }
}

#[track_caller]
fn is_gone<T: std::fmt::Debug>(result: Result<T, impl Into<TransferError>>) {
    let error = result.map_err(Into::into).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
}

fn open(bench: &Bench) -> Result<Card, CardError> {
    bench.try_open(CardOptions::default())
}

/// Every call, including `close`, fails immediately with `Gone`. Once the link is up, the card can be opened again.
#[test]
fn a_link_that_goes_down_and_comes_back() {
    for ring in RINGS {
        let bench = Bench::memory(EmulatorOptions::default().with_function_reset(true));
        let card = bench.open();
        let mut pair = Pair::new(&card, ring);
        pair.works(1);
        let start = Instant::now();
        bench.inject(Kind::LinkDown);
        is_gone(pair.h2c.transfer(&pair.source, 0..LEN, 0, LIMIT));
        is_gone(pair.c2h.transfer(&pair.sink, 0..LEN, 0, LIMIT));
        is_gone(pair.h2c.check());
        is_gone(pair.h2c.snapshot());
        is_gone(pair.h2c.stop());
        is_gone(pair.c2h.recover());
        assert!(matches!(card.report(), Err(CardError::Gone { .. })));
        let error = card.reset().unwrap_err();
        assert!(matches!(error, CardError::Gone { .. }), "{error}");
        // Registers that read all ones do not prove that the engine has stopped.
        let closed = pair.h2c.close();
        assert!(matches!(closed, Err(CloseError::Quarantined { .. })), "{closed:?}");
        drop((pair.c2h, card));
        let mut seen = vec![0u8; 8];
        pair.sink.read(0, &mut seen).expect("the memory is still accessible");
        drop((pair.source, pair.sink));
        assert!(matches!(open(&bench), Err(CardError::Gone { .. })));
        assert!(start.elapsed() < LIMIT, "{:?}", start.elapsed());
        bench.inject(Kind::LinkUp);
        Pair::new(&open(&bench).unwrap(), ring).works(2);
    }
}

/// The link goes down at a random moment during transfers.
#[test]
fn a_link_that_goes_down_under_transfers() {
    let bench = Bench::memory(EmulatorOptions::default());
    for round in 0..6 {
        let mut pair = Pair::new(&open(&bench).unwrap(), RINGS[round % 2]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(3 + round as u64));
                bench.inject(Kind::LinkDown);
            });
            let error = loop {
                if let Err(error) = pair.h2c.transfer(&pair.source, 0..LEN, 0, LIMIT) {
                    break error;
                }
            };
            assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
        });
        drop(pair);
        bench.inject(Kind::LinkUp);
    }
    Pair::new(&open(&bench).unwrap(), Ring::Credits).works(3);
}

/// The link goes down before the data of a job is sent, and while its result is fetched.
#[test]
fn a_link_that_goes_down_under_an_msm() {
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(Model::default()));
    for fetched in [false, true] {
        let card = bench.open();
        let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
        let points = Points::allocate(&card, 4).unwrap();
        let scalars = Scalars::allocate(&card, 4, ScalarForm::Canonical).unwrap();
        let job = msm.prepare(&points, &scalars).unwrap();
        let mut ticket = None;
        if fetched {
            ticket = Some(msm.submit(&job).unwrap());
            msm.wait_accepted(ticket.unwrap(), LIMIT).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert!(msm.poll(ticket.unwrap()).unwrap().is_none(), "this poll starts to fetch the result");
            std::thread::sleep(Duration::from_millis(50));
        }
        bench.inject(Kind::LinkDown);
        let start = Instant::now();
        match ticket.map_or_else(|| msm.submit(&job), Ok) {
            Ok(ticket) => {
                let error = msm.wait(ticket, LIMIT).map(drop).unwrap_err();
                let gone = matches!(error, JobError::Gone);
                assert!(gone || matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
            }
            Err(MsmSubmitError::Channel(error)) => {
                assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < LIMIT / 2, "{:?}", start.elapsed());
        drop((msm, job, points, scalars, card));
        bench.inject(Kind::LinkUp);
    }
    Msm::open(&bench.open(), MsmOptions::default()).unwrap();
}

/// The shell of F1 ends hanging accesses on its own. To the engine, and so to the driver, that looks like success: results must be
/// checked. The channel remains usable.
#[test]
fn a_shell_hides_logic_that_never_responds() {
    let options =
        EmulatorOptions { axi_timeout: Some(Duration::from_millis(100)), ..EmulatorOptions::default() };
    let model = Model { watchdog: 0, ..Model::default() };
    let bench = Bench::new(options, Design::Msm(model));
    let card = bench.open();
    for ring in RINGS {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
        let source = card.allocate(1 << 18, Direction::H2C).unwrap();
        // Scalars without points: the FIFO fills up, and the logic stops responding.
        let window = xdma::regs::msm::SCALAR_WINDOW;
        h2c.transfer(&source, 0..1 << 18, window, LIMIT).expect("no error is reported");
        assert!(bench.log().counters.axi_timeouts > 0);
        h2c.close().unwrap();
    }
}

#[test]
fn a_result_that_cannot_be_fetched_is_an_immediate_error() {
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(Model::default()));
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points = Points::allocate(&card, 2).unwrap();
    let scalars = Scalars::allocate(&card, 2, ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&points, &scalars).unwrap();
    bench.inject(Kind::Fetch(BadCompletion::CompleterAbort).on(Direction::C2H, 0));
    let (ticket, begin) = (msm.submit(&job).unwrap(), Instant::now());
    let error = msm.wait(ticket, LIMIT).unwrap_err();
    let JobError::Interrupted { cause, .. } = &error else { panic!("{error}") };
    assert!(matches!(cause.engine(), Some(EngineError::Failed { .. })), "{error}");
    assert!(begin.elapsed() < LIMIT / 2);
    let ticket = msm.submit(&job).unwrap();
    msm.wait(ticket, LIMIT).unwrap();
}
