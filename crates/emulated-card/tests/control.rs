//! Control of a card from outside its process, and loading an image while a client is connected.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xdma::card::{Card, CardOptions};
use xdma::msm::Msm;
use xdma_emulator::control::{ControlClient, ControlServer, Request, Response};
use xdma_emulator::faults::{BadCompletion, Kind};
use xdma_emulator::logic::{Design, MsmModelOptions};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions, Switches};
use xdma_regs::Direction;

const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    card: Arc<EmulatedCard>,
    control: ControlServer,
    path: PathBuf,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(EmulatorOptions::default())
    }

    fn with(options: EmulatorOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let card = Arc::new(EmulatedCard::start(options, Design::Memory.build()).unwrap());
        let control = ControlServer::start(Arc::clone(&card), &path).unwrap();
        Self { card, control, path, _folder: folder }
    }

    fn client(&self) -> ControlClient {
        ControlClient::open(&self.path).unwrap()
    }

    fn open(&self) -> Card {
        xdma_emulated_card::connect(&self.card, CardOptions::default()).unwrap()
    }
}

fn load(options: EmulatorOptions, design: Design) -> Request {
    Request::load(&options, design)
}

#[test]
fn loading_an_image_replaces_the_card_behind_the_same_function() {
    let bench = Bench::new();
    let mut client = bench.client();
    bench.open().h2c(3).unwrap();
    let options = EmulatorOptions { seed: 7, ..EmulatorOptions::default() }.with_channels(1, 4);
    client.call(load(options.clone(), Design::Msm(MsmModelOptions::default()))).unwrap();
    assert_eq!(client.options().unwrap(), options);
    assert_eq!(client.log().unwrap().counters.register_writes, 0, "the log was cleared");
    let card = bench.open();
    assert!(card.h2c(3).is_err(), "the new image has only one channel");
    Msm::open(&card, xdma::msm::MsmOptions::default()).unwrap();
    assert!(client.log().unwrap().counters.register_writes > 0);
}

#[test]
fn client_memory_survives_an_image_but_channels_do_not() {
    let bench = Bench::new();
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let source = card.allocate(5000, Direction::H2C).unwrap();
    h2c.transfer(&source, 0..5000, 0, LIMIT).unwrap();
    let switches = Switches { stop_clears_run: true.into(), ..Switches::default() };
    bench.client().call(load(EmulatorOptions::default().with_switches(switches), Design::Memory)).unwrap();
    assert!(
        h2c.transfer(&source, 0..5000, 0, Duration::from_millis(50)).is_err(),
        "the channel was set up on the previous image"
    );
    h2c.recover().unwrap();
    h2c.transfer(&source, 0..5000, 0, LIMIT).unwrap();
}

/// What a driver sees that is bound while a new image is loaded: registers of all ones, then a function in its reset state.
#[test]
fn a_driver_recovers_after_an_image_was_loaded_with_the_link_down() {
    let bench = Bench::new();
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let source = card.allocate(5000, Direction::H2C).unwrap();
    h2c.transfer(&source, 0..5000, 0, LIMIT).unwrap();
    let mut client = bench.client();
    let loading = std::thread::spawn(move || {
        let options = serde_json::Map::new();
        client.call(Request::Load { options, design: Design::Memory, link_down_ms: Some(300) }).unwrap();
    });
    std::thread::sleep(Duration::from_millis(100));
    let error = h2c.transfer(&source, 0..5000, 0, LIMIT).unwrap_err();
    assert_eq!(error.remedy(), xdma::Remedy::Reopen, "{error}");
    assert!(card.recover().is_err(), "the link is down");
    loading.join().unwrap();
    // The function is in its reset state, so bus mastering is off.
    card.recover().unwrap();
    h2c.recover().unwrap();
    h2c.transfer(&source, 0..5000, 0, LIMIT).unwrap();
}

/// Only the options and switches that a request names change, on any card.
#[test]
fn a_partial_request_is_enough() {
    for name in ["f1", "alveo", "msi"] {
        let card = CardFile::shipped(name).unwrap();
        let options = EmulatorOptions { seed: 5, ..EmulatorOptions::like(card) }.with_function_reset(true);
        let bench = Bench::with(options.clone());
        let stream = UnixStream::connect(&bench.path).unwrap();
        let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
        let mut ask = |options: &str| {
            let request =
                format!(r#"{{"id":1,"body":{{"Load":{{"options":{options},"design":"Memory"}}}}}}"#);
            (&stream).write_all(format!("{request}\n").as_bytes()).unwrap();
            lines.next().unwrap()
        };
        let done = r#"{"id":1,"body":{"Ok":"Done"}}"#;
        assert_eq!(ask(r#"{"switches":{"stop_clears_run":true}}"#), done);
        assert_eq!(ask("{}"), done);
        let switches = Switches { stop_clears_run: true.into(), ..Switches::default() };
        assert_eq!(bench.card.options(), options.with_switches(switches), "{name}");
        let unknown = ask(r#"{"like":"alveo"}"#);
        assert!(unknown.contains("unknown field `like`"), "{unknown}");
    }
}

/// A request that is refused leaves the link up and the registers as they are.
#[test]
fn a_refused_image_changes_nothing() {
    let bench = Bench::new();
    let (card, mut client) = (bench.open(), bench.client());
    let mut h2c = card.h2c(0).unwrap();
    let source = card.allocate(64, Direction::H2C).unwrap();
    let alveo = Request::load(&EmulatorOptions::like(CardFile::alveo()), Design::Memory);
    let Request::Load { options, design, .. } = alveo else { unreachable!() };
    client.call(Request::Load { options, design, link_down_ms: Some(10) }).unwrap_err();
    let streams = client.call(load(EmulatorOptions::default(), Design::Loopback)).unwrap_err();
    assert!(streams.to_string().contains("for stream channels"), "{streams}");
    h2c.transfer(&source, 0..64, 0, LIMIT).unwrap();
}

#[test]
fn faults_are_injected_and_reported() {
    let bench = Bench::new();
    let (card, mut client) = (bench.open(), bench.client());
    let mut h2c = card.h2c(1).unwrap();
    let source = card.allocate(64, Direction::H2C).unwrap();
    client.call(Request::Inject(Kind::Fetch(BadCompletion::Poisoned).on(Direction::H2C, 1))).unwrap();
    let error = h2c.transfer(&source, 0..64, 0, LIMIT).unwrap_err();
    assert!(error.to_string().contains("poisoned"), "{error}");
    let error =
        client.call(Request::Inject(Kind::Fetch(BadCompletion::Parity).on(Direction::H2C, 9))).unwrap_err();
    assert_eq!(error.to_string(), "the card has no channel H2C 9");
    let log = client.log().unwrap();
    assert!(log.violations.is_empty() && log.dma_faults.is_empty());
}

#[test]
fn an_image_cannot_change_the_function() {
    let bench = Bench::new();
    let mut client = bench.client();
    let reset = EmulatorOptions::default().with_function_reset(true);
    let alveo = EmulatorOptions { card: CardFile::alveo(), ..EmulatorOptions::default() };
    for options in [reset, alveo] {
        let error = client.call(load(options, Design::Memory)).unwrap_err().to_string();
        assert!(error.contains("cannot change the PCI function"), "{error}");
    }
    let error = client.call(load(EmulatorOptions::default().with_channels(4, 5), Design::Memory));
    assert!(error.unwrap_err().to_string().contains("at most 4 channels"));
    assert_eq!(client.options().unwrap(), EmulatorOptions::default());
}

#[test]
fn requests_are_json_lines_and_incomplete_lines_are_ignored() {
    let bench = Bench::new();
    let stream = UnixStream::connect(&bench.path).unwrap();
    let ask = |line: &str| (&stream).write_all(line.as_bytes()).unwrap();
    ask(
        "{\"id\":1,\"body\":\n{\"id\":2,\"body\":\"Nonsense\"}\n\n{\"id\":3,\"body\":{\"Inject\":{\"fault\":\"LinkDown\"}}}\n",
    );
    ask("{\"id\":4,\"body\":{\"Load\":{\"options\":{\"seed\":7},\"design\":\"Memory\"}}}\n");
    let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), r#"{"id":3,"body":{"Ok":"Done"}}"#);
    assert_eq!(lines.next().unwrap(), r#"{"id":4,"body":{"Ok":"Done"}}"#);
    assert_eq!(bench.card.options().seed, 7);
}

/// Asserts that a client is served within a second.
fn is_served(bench: &Bench) {
    let begin = Instant::now();
    bench.client().log().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[test]
fn silent_clients_and_incomplete_lines_do_not_block_others() {
    let bench = Bench::new();
    let mut others = Vec::new();
    for round in 0..100 {
        let mut other = UnixStream::connect(&bench.path).unwrap();
        other.write_all(&b"{\"id\":1,"[..round % 9]).unwrap();
        others.push(other);
    }
    is_served(&bench);
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count() - others.len();
    assert!(files < 60, "the server keeps only a few connections open: {files}");
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let bench = Bench::new();
    let mut endless = UnixStream::connect(&bench.path).unwrap();
    endless.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut sent = 0;
    let error = loop {
        match endless.write(&[b' '; 1 << 16]) {
            Ok(n) => sent += n,
            Err(error) => break error,
        }
        assert!(sent < 8 << 20, "{sent} bytes of one line were accepted");
    };
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    is_served(&bench);
}

#[test]
fn a_client_that_does_not_read_responses_blocks_no_other_and_is_cut_off() {
    let bench = Bench::new();
    let mut silent = UnixStream::connect(&bench.path).unwrap();
    silent.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while silent.write_all(b"{\"id\":1,\"body\":\"Options\"}\n").is_ok() {}
    is_served(&bench);
    let begin = Instant::now();
    silent.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    while silent.write_all(&[b'\n'; 4096]).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    drop(bench.control);
}

#[test]
fn a_request_may_arrive_in_pieces() {
    let bench = Bench::new();
    let mut slow = UnixStream::connect(&bench.path).unwrap();
    for byte in b"{\"id\":1,\"body\":{\"Inject\":{\"fault\":\"LinkUp\"}}}\n" {
        slow.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answer = String::new();
    BufReader::new(slow).read_line(&mut answer).unwrap();
    assert_eq!(answer, "{\"id\":1,\"body\":{\"Ok\":\"Done\"}}\n");
}

/// A server that accepts a request, but does not respond, or responds without end.
#[test]
fn a_misbehaving_server_causes_an_error() {
    for endless in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(if endless { &[b' '; 1 << 16] } else { b" " }).is_ok() {
                std::thread::sleep(if endless { Duration::ZERO } else { Duration::from_millis(100) });
            }
        });
        let mut client = ControlClient::open(&path).unwrap();
        let begin = Instant::now();
        client.log().unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(15));
        let begin = Instant::now();
        client.log().unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(1), "fails immediately after an earlier timeout");
        drop(client);
        server.join().unwrap();
    }
}

#[test]
fn clients_are_served_in_turn_and_the_socket_is_removed_with_the_server() {
    let bench = Bench::new();
    for _ in 0..2 {
        let mut client = bench.client();
        assert!(matches!(client.call(Request::Inject(Kind::LinkUp.into())).unwrap(), Response::Done));
    }
    let mut client = bench.client();
    client.log().unwrap();
    drop(bench.control);
    assert!(client.log().is_err());
    assert!(!bench.path.exists());
}
