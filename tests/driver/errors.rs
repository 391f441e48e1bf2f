//! Bad input and bad luck: each a typed error that names cause and remedy.

use std::os::unix::net::UnixListener;
use std::time::Duration;
use xdma::bus::vfio_user::VfioUser;
use xdma::bus::{Bus, BusError};
use xdma::card::{Card, CardError, CardName, CardOptions};
use xdma::channel::{ChannelOptions, EngineError, Poll, Ring, Transfers};
use xdma::memory::{HugePages, MemoryError, PageSize};
use xdma::msm::{Msm, MsmError, MsmOptions};
use xdma::regs::Direction;
use xdma_emulator::logic::{Design, MsmOptions as Model};
use xdma_emulator::{Options, Profile};
use xdma_testkit::bench::{Bench, LIMIT, profiles};

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[track_caller]
fn says(error: impl std::fmt::Display, parts: &[&str]) {
    let text = text(error);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn connect(path: &std::path::Path) -> Result<Card, CardError> {
    Card::connect(path, CardOptions::default())
}

#[test]
fn no_socket_there() {
    let error = connect("/nonexistent/card.sock".as_ref()).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::NotFound { .. })));
    says(error, &["no card at /nonexistent/card.sock", "check the path"]);
}

#[test]
fn a_file_or_a_dead_socket_is_no_card() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    says(connect(&file).unwrap_err(), &["not a vfio-user card", "a regular file, not a socket"]);
    let dead = dir.path().join("dead");
    drop(UnixListener::bind(&dead).unwrap());
    says(connect(&dead).unwrap_err(), &["not a vfio-user card", "process has ended"]);
}

#[test]
fn a_server_that_speaks_something_else_is_no_card() {
    let dir = tempfile::tempdir().unwrap();
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let path = dir.path().join(format!("s{}", answer[0]));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, answer).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        });
        says(connect(&path).unwrap_err(), &["not a vfio-user card", "protocol error"]);
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_never_answers_ends_in_an_error_not_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mute");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = connect(&path).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::Taken { .. })));
    says(error, &["taken", "did not greet", "end the other one first"]);
}

#[test]
fn a_card_serves_one_client() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let error = bench.try_open(CardOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::Taken { .. })), "{error}");
    says(error, &["is taken", "end the other one first"]);
    card.report().expect("the first client is not disturbed");
    drop(card);
    bench.open();
}

#[test]
fn a_second_open_of_a_channel_is_refused_until_the_first_is_closed() {
    let bench = Bench::memory(Options { h2c_channels: 2, c2h_channels: 1, ..Options::default() });
    let card = bench.open();
    let first = card.h2c(0).unwrap();
    says(card.h2c(0).unwrap_err(), &["H2C channel 0 is open already", "close it"]);
    first.close().unwrap();
    card.h2c(0).unwrap();
    says(card.h2c(2).unwrap_err(), &["no H2C channel 2 on this card"]);
    says(card.c2h(1).unwrap_err(), &["no C2H channel 1 on this card"]);
    says(card.c2h(4).unwrap_err(), &["C2H channel 4: a card has channels 0 to 3"]);
    // A channel that could not be opened is not taken.
    says(card.h2c(2).unwrap_err(), &["no H2C channel 2"]);
}

#[test]
fn the_wrong_bar_has_no_identifiers() {
    let bench = Bench::memory(Options::default());
    let options = CardOptions { register_bar: Some(0), ..CardOptions::default() };
    let error = bench.try_open(options).unwrap_err();
    assert!(matches!(error, CardError::NotXdma { .. }));
    let function = match bench.options().profile {
        Profile::F1 => "1d0f:f001",
        Profile::Alveo => "10ee:903f",
    };
    says(error, &["no XDMA registers on", function, "BAR0 reads", "0x1fc2"]);
    let options = CardOptions { register_bar: Some(3), ..CardOptions::default() };
    says(bench.try_open(options).unwrap_err(), &["none of BARs [3]"]);
}

#[test]
fn names_that_are_no_card() {
    says("f2".parse::<CardName>().unwrap_err(), &["`f2` is not a card", "PCI address", "unix:PATH"]);
    let name: CardName = "ffff:ff:1f.7".parse().unwrap();
    says(name.open(CardOptions::default()).unwrap_err(), &["no PCI function ffff:ff:1f.7", "lspci"]);
}

#[test]
fn hugepages_that_are_not_there() {
    let bench = Bench::memory(Options::default());
    let pages = HugePages::Require(PageSize::Huge1G);
    let card = bench.try_open(CardOptions { pages, ..CardOptions::default() }).unwrap();
    match card.allocate(1, Direction::H2C) {
        Err(error) => says(error, &["pages of 1 GiB", "hugepagesz=1G"]),
        Ok(buffer) => assert_eq!(buffer.page(), PageSize::Huge1G),
    }
}

#[test]
fn buffers_that_cannot_be_transferred() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let source = card.allocate(100, Direction::H2C).unwrap();
    let sink = card.allocate(100, Direction::C2H).unwrap();
    says(h2c.submit(&source, 5..5, 0).unwrap_err(), &["empty"]);
    says(h2c.submit(&source, 50..101, 0).unwrap_err(), &["0x32..0x65", "0x64 bytes"]);
    says(h2c.submit(&sink, 0..1, 0).unwrap_err(), &["H2C needs memory of the other kind", "the card writes"]);
    says(h2c.submit(&source, 0..2, u64::MAX).unwrap_err(), &["leave the 64-bit address space"]);
    says(h2c.program(&Transfers::new(Direction::H2C)).unwrap_err(), &["empty"]);
    says(h2c.program(&Transfers::new(Direction::C2H)).unwrap_err(), &["another kind of channel"]);
    says(h2c.start(&Transfers::new(Direction::H2C)).unwrap_err(), &["empty"]);
    let registered = card.register(Vec::<u64>::new(), Direction::H2C).unwrap_err();
    assert!(matches!(registered.source, MemoryError::Empty));
    says(card.allocate(1 << 60, Direction::H2C).unwrap_err(), &["cannot allocate"]);
    let mut c2h = card.c2h(0).unwrap();
    let mut overlapping = Transfers::new(Direction::C2H);
    overlapping.add(&sink, 0..64, 0).unwrap().add(&sink, 63..70, 4096).unwrap();
    for error in [c2h.start(&overlapping).unwrap_err(), c2h.program(&overlapping).unwrap_err()] {
        assert!(matches!(error, EngineError::Overlap { .. }));
        says(error, &["write the same host memory"]);
    }
    // Any alignment is fine, on either side.
    h2c.transfer(&source, 1..100, 3, LIMIT).unwrap();
}

#[test]
fn jobs_that_do_not_fit_the_ring() {
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let options = ChannelOptions { slots: 4, ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(100, Direction::H2C).unwrap();
    let mut many = Transfers::new(Direction::H2C);
    for at in 0..5 {
        many.add(&source, at..at + 1, 0).unwrap();
    }
    let error = h2c.start(&many).unwrap_err();
    assert!(matches!(error, EngineError::TooLarge { needed: 5, ring: 4 }));
    says(error, &["split the transfer", "program"]);
    let program = h2c.program(&many).unwrap();
    let ticket = h2c.run(&program).unwrap();
    h2c.wait(ticket, LIMIT).unwrap();
    let mut other =
        card.channel(Direction::H2C, 1, ChannelOptions { ring: Some(Ring::Chain), ..options }).unwrap();
    says(other.poll(ticket).unwrap_err(), &["ticket is of another channel"]);
    assert!(matches!(other.run(&program), Err(EngineError::ForeignProgram)) || h2c.ring() == Ring::Chain);
}

#[test]
fn nothing_at_a_card_address_is_an_error_and_the_channel_recovers() {
    for profile in profiles() {
        let bench = Bench::memory(Options { profile, ..Options::default() });
        let card = bench.open();
        for ring in [Ring::Chain, Ring::Credits] {
            let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
            let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
            let mut c2h = card.channel(Direction::C2H, 0, options).unwrap();
            let source = card.allocate(4096, Direction::H2C).unwrap();
            let sink = card.allocate(4096, Direction::C2H).unwrap();
            let before = h2c.submit(&source, 0..64, 0).unwrap();
            let lost = h2c.submit(&source, 0..64, 1 << 50).unwrap();
            let after = h2c.submit(&source, 0..64, 64);
            let error = h2c.wait(lost, LIMIT).unwrap_err();
            assert!(matches!(error, EngineError::Failed { .. }));
            says(&error, &["nothing answers at this card address", "`recover` the channel"]);
            h2c.wait(before, LIMIT).expect("what was finished before the error is finished");
            assert!(after.is_err() || h2c.wait(after.unwrap(), LIMIT).is_err());
            assert!(matches!(h2c.submit(&source, 0..64, 0), Err(EngineError::Failed { .. })));
            h2c.recover().unwrap();
            h2c.transfer(&source, 0..4096, 0, LIMIT).unwrap();
            says(c2h.transfer(&sink, 0..64, 1 << 50, LIMIT).unwrap_err(), &["C2H channel 0", "decode error"]);
            c2h.recover().unwrap();
            c2h.transfer(&sink, 0..4096, 0, LIMIT).unwrap();
        }
    }
}

#[test]
fn a_deadline_leaves_the_transfer_in_flight_and_stop_ends_it() {
    let bench = Bench::new(Options::default(), Design::Msm(Model { watchdog: 0, ..Model::default() }));
    let card = bench.open_impatient();
    let mut h2c = card.h2c(0).unwrap();
    let mut source = card.allocate(1 << 20, Direction::H2C).unwrap();
    let window = xdma::regs::msm::SCALAR_WINDOW;
    let ticket = h2c.submit(&source, 0..1 << 20, window).unwrap();
    let error = h2c.wait(ticket, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, EngineError::Deadline { .. }));
    says(error, &["not finished within 20ms", "busy", "`stop`"]);
    assert!(matches!(source.write(0, &[1u8]), Err(MemoryError::InFlight(1))));
    let error = h2c.stop().unwrap_err();
    assert!(matches!(error, EngineError::Hung { .. }));
    says(error, &["does not become idle"]);
    assert!(source.write(0, &[1u8]).is_err(), "the engine may still read it");
    // The design drops what it is sent: the engine finishes its descriptor or stops, and everything is usable again.
    let user = card.user().unwrap();
    h2c.recover_with(&mut || Ok(user.write(xdma::regs::msm::CTRL, 2)?)).unwrap();
    match h2c.poll(ticket) {
        Ok(poll) => assert_eq!(poll, Poll::Ready),
        Err(error) => says(error, &["abandoned"]),
    }
    source.write(0, &[1u8]).unwrap();
}

#[test]
fn a_card_that_goes_away_is_gone_everywhere() {
    let bench = Bench::new(Options::default(), Design::Msm(Model::default()));
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let mut c2h = card.c2h(1).unwrap();
    let sink = card.allocate(4096, Direction::C2H).unwrap();
    drop(bench);
    says(c2h.transfer(&sink, 0..64, 0, LIMIT).unwrap_err(), &["the card is gone"]);
    assert!(matches!(msm.start(1, Default::default()), Err(MsmError::Bus(BusError::Gone { .. }))));
    says(card.report().unwrap_err(), &["gone"]);
    says(msm.recover().unwrap_err(), &["gone"]);
    let mut data = [0u8; 8];
    sink.read(0, &mut data).expect("memory is still ours");
}

#[test]
fn another_design_is_not_taken_for_an_msm() {
    let bench = Bench::memory(Options::default());
    let error = Msm::open(&bench.open(), MsmOptions::default()).unwrap_err();
    says(error, &["not the MSM design", "0x4d534d01"]);
}

#[test]
fn register_offsets_are_checked() {
    let bench = Bench::memory(Options::default());
    let bus = VfioUser::connect(bench.socket()).unwrap();
    let bar = bus.bar(2).unwrap();
    for bad in [1, 2, 3, 0x1_0000, u64::MAX - 3] {
        assert!(matches!(bar.read32(bad), Err(BusError::BadOffset { .. })), "{bad:#x}");
        assert!(matches!(bar.write32(bad, 0), Err(BusError::BadOffset { .. })), "{bad:#x}");
    }
    assert!(matches!(bus.bar(3), Err(BusError::NoBar(3))));
    assert!(matches!(bus.config_read(1, 2), Err(BusError::BadOffset { .. })));
    assert!(matches!(bus.config_read(4096, 4), Err(BusError::BadOffset { .. })));
    assert_eq!(bus.config_read(0, 4).unwrap(), 0xf001_1d0f);
}

#[test]
fn signals_do_not_disturb_a_card() {
    extern "C" fn nothing(_: libc::c_int) {}
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let buffer = card.allocate(64, Direction::H2C).unwrap();
    let mut h2c = card.h2c(0).unwrap();
    // SAFETY: the handler does nothing, and the signal has no other use here.
    let target = unsafe {
        libc::signal(libc::SIGUSR1, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::pthread_self()
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // SAFETY: the thread waits for this one before it ends.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let moved =
            (0..300).try_for_each(|_| h2c.transfer(&buffer, 0..64, 0, LIMIT).and_then(|()| h2c.check()));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        moved.unwrap();
    });
}
