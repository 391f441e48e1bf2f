//! Invalid input and failures: each is a typed error that states cause and remedy.

use std::os::unix::net::UnixListener;
use std::time::Duration;
use xdma::card::{Card, CardError, CardName, CardOptions};
use xdma::channel::{
    ChannelOptions, EngineError, Poll, ProgramError, Ring, SubmitError, TransferError, Transfers, WaitError,
};
use xdma::memory::{HugePages, MemoryError, PageSize};
use xdma::msm::{Msm, MsmOptions, MsmSubmitError};
use xdma::regs::Direction;
use xdma::unstable::bus::vfio_user::VfioUser;
use xdma::unstable::bus::{Bus, BusError};
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT, cards};

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Checks that the text of an error contains all parts.
#[track_caller]
fn contains(error: impl std::fmt::Display, parts: &[&str]) {
    let text = text(error);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

fn connect(path: &std::path::Path) -> Result<Card, CardError> {
    Card::connect(path, CardOptions::default())
}

#[test]
fn a_missing_socket_is_an_error() {
    let error = connect("/nonexistent/card.sock".as_ref()).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::NotFound { .. })));
    contains(error, &["no card at /nonexistent/card.sock", "check the path"]);
}

#[test]
fn a_file_or_a_dead_socket_is_not_a_card() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    contains(connect(&file).unwrap_err(), &["not a vfio-user card", "a regular file, not a socket"]);
    let dead = dir.path().join("dead");
    drop(UnixListener::bind(&dead).unwrap());
    contains(connect(&dead).unwrap_err(), &["not a vfio-user card", "process has ended"]);
}

#[test]
fn a_server_with_another_protocol_is_not_a_card() {
    let dir = tempfile::tempdir().unwrap();
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let path = dir.path().join(format!("s{}", answer[0]));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, answer).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        });
        contains(connect(&path).unwrap_err(), &["not a vfio-user card", "protocol error"]);
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_never_replies_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mute");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = connect(&path).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::Taken { .. })));
    contains(error, &["taken", "did not reply", "end the other one first"]);
}

#[test]
fn a_card_serves_one_client() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let error = bench.try_open(CardOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::Taken { .. })), "{error}");
    contains(error, &["is taken", "end the other one first"]);
    card.report().expect("the first client still works");
    drop(card);
    bench.open();
}

#[test]
fn a_second_open_of_a_channel_is_refused_until_the_first_is_closed() {
    let bench = Bench::memory(EmulatorOptions::default().with_channels(3, 1));
    let card = bench.open();
    let first = card.h2c(0).unwrap();
    contains(card.h2c(0).unwrap_err(), &["H2C channel 0 is already open", "close it"]);
    first.close().unwrap();
    card.h2c(0).unwrap();
    contains(card.h2c(3).unwrap_err(), &["this card has no H2C channel 3"]);
    contains(card.c2h(1).unwrap_err(), &["this card has no C2H channel 1"]);
    contains(card.c2h(4).unwrap_err(), &["no C2H channel 4; channel numbers are 0 to 3"]);
    // A failed attempt does not mark the channel as open.
    contains(card.h2c(3).unwrap_err(), &["no H2C channel 3"]);
}

#[test]
fn a_bar_without_identifiers_is_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.options().card;
    let has_identifiers = |bar| [card.register_bar(), card.interrupt_bar()].contains(&Some(bar));
    let other = card.bars.iter().map(|bar| bar.index).find(|&bar| !has_identifiers(bar)).unwrap();
    let options = CardOptions { register_bar: Some(other), ..CardOptions::default() };
    let error = bench.try_open(options).unwrap_err();
    assert!(matches!(error, CardError::NotXdma { .. }));
    let function = format!("{:04x}:{:04x}", card.function.vendor, card.function.device);
    contains(error, &["no XDMA registers on", &function, &format!("BAR{other}")]);
    let options = CardOptions { register_bar: Some(3), ..CardOptions::default() };
    contains(bench.try_open(options).unwrap_err(), &["BAR3 does not exist", "one of BAR"]);
}

#[test]
fn invalid_names_are_not_cards() {
    contains("f3".parse::<CardName>().unwrap_err(), &["`f3` is not a card", "PCI address", "unix:PATH"]);
    let name: CardName = "ffff:ff:1f.7".parse().unwrap();
    contains(name.open(CardOptions::default()).unwrap_err(), &["no PCI function ffff:ff:1f.7", "lspci"]);
}

#[test]
fn missing_hugepages_are_an_error() {
    let bench = Bench::memory(EmulatorOptions::default());
    let pages = HugePages::Require(PageSize::Huge1G);
    let card = bench.try_open(CardOptions { pages, ..CardOptions::default() }).unwrap();
    match card.allocate(1, Direction::H2C) {
        Err(error) => contains(error, &["pages of 1 GiB", "hugepagesz=1G"]),
        Ok(buffer) => assert_eq!(buffer.page(), PageSize::Huge1G),
    }
}

#[test]
fn invalid_transfers_are_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let source = card.allocate(100, Direction::H2C).unwrap();
    let sink = card.allocate(100, Direction::C2H).unwrap();
    contains(h2c.submit(&source, 5..5, 0).unwrap_err(), &["empty"]);
    contains(h2c.submit(&source, 50..101, 0).unwrap_err(), &["0x32..0x65", "0x64 bytes"]);
    contains(
        h2c.submit(&sink, 0..1, 0).unwrap_err(),
        &["H2C transfers need memory for that direction", "the card writes"],
    );
    contains(h2c.submit(&source, 0..2, u64::MAX).unwrap_err(), &["exceed the 64-bit address space"]);
    contains(h2c.program(&Transfers::new(Direction::H2C)).unwrap_err(), &["empty"]);
    contains(h2c.program(&Transfers::new(Direction::C2H)).unwrap_err(), &["the other direction"]);
    contains(h2c.start(&Transfers::new(Direction::H2C)).unwrap_err(), &["empty"]);
    let registered = card.register(Vec::<u64>::new(), Direction::H2C).unwrap_err();
    assert!(matches!(registered.source, MemoryError::Empty));
    contains(card.allocate(1 << 60, Direction::H2C).unwrap_err(), &["cannot allocate"]);
    let mut c2h = card.c2h(0).unwrap();
    let mut overlapping = Transfers::new(Direction::C2H);
    overlapping.add(&sink, 0..64, 0).unwrap().add(&sink, 63..70, 4096).unwrap();
    let error = c2h.start(&overlapping).unwrap_err();
    assert!(matches!(error, SubmitError::Overlap { .. }));
    contains(error, &["write the same host memory"]);
    let error = c2h.program(&overlapping).unwrap_err();
    assert!(matches!(error, ProgramError::Overlap { .. }));
    contains(error, &["write the same host memory"]);
    // Any alignment is valid, on both sides.
    h2c.transfer(&source, 1..100, 3, LIMIT).unwrap();
}

#[test]
fn jobs_larger_than_the_ring_are_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let options = ChannelOptions { slots: 4, ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(100, Direction::H2C).unwrap();
    let mut many = Transfers::new(Direction::H2C);
    for at in 0..5 {
        many.add(&source, at..at + 1, 0).unwrap();
    }
    let error = h2c.start(&many).unwrap_err();
    assert!(matches!(error, SubmitError::TooLarge { needed: 5, ring: 4 }));
    contains(error, &["split the transfer", "program"]);
    let program = h2c.program(&many).unwrap();
    let ticket = h2c.run(&program).unwrap();
    h2c.wait(ticket, LIMIT).unwrap();
    let mut other =
        card.channel(Direction::H2C, 1, ChannelOptions { ring: Some(Ring::Chain), ..options }).unwrap();
    contains(other.poll(ticket).unwrap_err(), &["ticket belongs to another channel"]);
    assert!(matches!(other.run(&program), Err(SubmitError::WrongChannel)) || h2c.ring() == Ring::Chain);
}

#[test]
fn an_unmapped_card_address_is_an_error_and_the_channel_recovers() {
    for card in cards() {
        let bench = Bench::memory(EmulatorOptions { card, ..EmulatorOptions::default() });
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
            assert!(matches!(error.engine(), Some(EngineError::Failed { .. })));
            contains(&error, &["nothing answers at this card address", "recover the channel"]);
            h2c.wait(before, LIMIT).expect("the transfer before the error is finished");
            assert!(after.is_err() || h2c.wait(after.unwrap(), LIMIT).is_err());
            let again = h2c.submit(&source, 0..64, 0);
            assert!(matches!(again, Err(SubmitError::Engine(EngineError::Failed { .. }))));
            h2c.recover().unwrap();
            h2c.transfer(&source, 0..4096, 0, LIMIT).unwrap();
            contains(
                c2h.transfer(&sink, 0..64, 1 << 50, LIMIT).unwrap_err(),
                &["C2H channel 0", "decode error"],
            );
            c2h.recover().unwrap();
            c2h.transfer(&sink, 0..4096, 0, LIMIT).unwrap();
        }
    }
}

#[test]
fn a_deadline_leaves_the_transfer_in_flight_and_stop_ends_it() {
    let bench =
        Bench::new(EmulatorOptions::default(), Design::Msm(Model { watchdog: 0, ..Model::default() }));
    let card = bench.open_with_short_idle_limit();
    let mut h2c = card.h2c(0).unwrap();
    let mut source = card.allocate(1 << 20, Direction::H2C).unwrap();
    let window = xdma::regs::msm::SCALAR_WINDOW;
    let ticket = h2c.submit(&source, 0..1 << 20, window).unwrap();
    let error = h2c.wait(ticket, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, WaitError::Deadline { .. }));
    contains(error, &["not finished within 20ms", "busy", "stop the channel"]);
    assert!(matches!(source.write(0, &[1u8]), Err(MemoryError::InFlight(1))));
    let error = h2c.stop().unwrap_err();
    assert!(matches!(error, EngineError::Hung { .. }));
    contains(error, &["does not become idle"]);
    assert!(source.write(0, &[1u8]).is_err(), "the engine may still read it");
    // The design drops all further data, so the engine finishes its descriptor or stops, and everything can be used again.
    let user = card.user().unwrap();
    h2c.recover_with(&mut || user.write(xdma::regs::msm::CTRL, 2).unwrap()).unwrap();
    match h2c.poll(ticket) {
        Ok(poll) => assert_eq!(poll, Poll::Ready),
        Err(error) => contains(error, &["abandoned"]),
    }
    source.write(0, &[1u8]).unwrap();
}

#[test]
fn a_card_that_goes_away_is_gone_everywhere() {
    let bench = Bench::new(EmulatorOptions::default(), Design::Msm(Model::default()));
    let card = bench.open();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let mut c2h = card.c2h(1).unwrap();
    let sink = card.allocate(4096, Direction::C2H).unwrap();
    drop(bench);
    contains(c2h.transfer(&sink, 0..64, 0, LIMIT).unwrap_err(), &["the card is gone"]);
    assert!(matches!(msm.start(1, Default::default()), Err(MsmSubmitError::Bus(BusError::Gone { .. }))));
    contains(card.report().unwrap_err(), &["gone"]);
    contains(msm.recover().unwrap_err(), &["gone"]);
    let mut data = [0u8; 8];
    sink.read(0, &mut data).expect("the memory is still accessible");
}

#[test]
fn another_design_is_not_accepted_as_the_msm_design() {
    let bench = Bench::memory(EmulatorOptions::default());
    let error = Msm::open(&bench.open(), MsmOptions::default()).unwrap_err();
    contains(error, &["not the MSM design", "0x4d534d01"]);
}

#[test]
fn register_offsets_are_checked() {
    let bench = Bench::memory(EmulatorOptions::default());
    let bus = VfioUser::connect(bench.socket()).unwrap();
    let card = bench.options().card;
    let bar = bus.bar(card.register_bar().unwrap()).unwrap();
    for bad in [1, 2, 3, bar.size(), u64::MAX - 3] {
        assert!(matches!(bar.read32(bad), Err(BusError::BadOffset { .. })), "{bad:#x}");
        assert!(matches!(bar.write32(bad, 0), Err(BusError::BadOffset { .. })), "{bad:#x}");
    }
    assert!(matches!(bus.bar(3), Err(BusError::NoBar(3))));
    assert!(matches!(bus.config_read(1, 2), Err(BusError::BadOffset { .. })));
    assert!(matches!(bus.config_read(4096, 4), Err(BusError::BadOffset { .. })));
    let id = u32::from(card.function.device) << 16 | u32::from(card.function.vendor);
    assert_eq!(bus.config_read(0, 4).unwrap(), id);
}

#[test]
fn signals_do_not_disturb_a_card() {
    extern "C" fn nothing(_: libc::c_int) {}
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let buffer = card.allocate(64, Direction::H2C).unwrap();
    let mut h2c = card.h2c(0).unwrap();
    // SAFETY: the handler does nothing, and this process has no other use for the signal.
    let target = unsafe {
        libc::signal(libc::SIGUSR1, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::pthread_self()
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // SAFETY: the target thread waits for this one before it ends.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let moved = (0..300).try_for_each(|_| {
            h2c.transfer(&buffer, 0..64, 0, LIMIT)?;
            Ok::<_, TransferError>(h2c.check()?)
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        moved.unwrap();
    });
}
