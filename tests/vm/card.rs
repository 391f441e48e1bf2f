//! In every mode.

use std::os::unix::process::ExitStatusExt;
use xdma::card::{Card, CardError, CardName, CardOptions};
use xdma::channel::{Channel, ChannelOptions, Poll, Ring, Ticket, Transfers};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma::unstable::bus::vfio::{Mode, Vfio};
use xdma::unstable::bus::{Bus, BusError};
use xdma_emulator::Options;
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, works};
use xdma_testkit::process;

/// What a process ends with when it did what it should, without being able to say so.
const DONE: i32 = 42;

#[test]
fn the_description_says_how_the_card_is_reached() {
    let bench = Bench::memory(Options::default());
    let report = bench.open().report().unwrap();
    let bus = &report.bus;
    let mode = std::env::var("XDMA_VFIO").unwrap();
    let kind = match &*mode {
        "noiommu" => "vfio no-IOMMU",
        "cdev" => "vfio cdev",
        _ => "vfio type1",
    };
    assert_eq!(bus.kind, kind);
    assert_eq!(bus.location, std::env::var("XDMA_CARD").unwrap());
    assert!(!bus.registers_by_system_call);
    assert!(bus.resettable || !bench.options().function_reset);
    assert_eq!(bus.page_sizes == 0, mode == "noiommu", "{:#x}", bus.page_sizes);
    let text = report.to_string();
    assert!(text.contains(kind) && text.contains("function reset"), "{text}");
}

#[test]
fn a_function_that_vfio_pci_does_not_have_is_refused() {
    // Every machine has a host bridge.
    let bridge: CardName = "0000:00:00.0".parse().unwrap();
    let error = bridge.open(CardOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::NotBound { .. })), "{error}");
    assert!(error.to_string().contains("bind it to vfio-pci"), "{error}");
}

#[test]
fn another_process_is_refused() {
    const ROLE: &str = "second";
    if process::is(ROLE) {
        println!("the second says: {}", process::open().unwrap_err());
        return;
    }
    let bench = Bench::memory(Options::default());
    let card = bench.open();
    let (said, status) =
        process::finish(process::start(&bench.name(), "card::another_process_is_refused", ROLE));
    assert!(status.success() && said.contains("is taken"), "{said}");
    works(&card);
}

/// From here on any system call of this thread but the process' end kills the process.
fn forbid_system_calls() {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The call's number; the only one allowed goes on, all others skip a line.
    let mut filter = [
        step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        step((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, libc::SYS_exit_group as u32),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the calls take numbers, and a pointer to a program that outlives them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

fn end(status: i32) -> ! {
    // SAFETY: nothing of this process is needed any more.
    unsafe { libc::_exit(status) }
}

fn spin(channel: &mut Channel, ticket: Ticket) {
    while channel.poll(ticket).unwrap() == Poll::Pending {
        std::hint::spin_loop();
    }
}

/// Transfers and a program of 2,000 descriptors, after one round in which everything may happen.
fn drive_channels(card: &Card) {
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    let mut transfers = Transfers::new(Direction::H2C);
    for at in 0..2000 {
        transfers.add(&source, at * 64..at * 64 + 64, at * 64).unwrap();
    }
    let channels = [(Ring::Chain, 0), (Ring::Credits, 1)].map(|(ring, number)| {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let channel = card.channel(Direction::H2C, number, options).unwrap();
        let program = channel.program(&transfers).unwrap();
        (channel, program)
    });
    let mut channels = channels;
    let mut round = || {
        for (channel, program) in &mut channels {
            for len in [64, 4096, 1 << 20] {
                let ticket = channel.submit(&source, 0..len, 0).unwrap();
                spin(channel, ticket);
            }
            let ticket = channel.run(program).unwrap();
            spin(channel, ticket);
        }
    };
    round();
    forbid_system_calls();
    round();
    end(DONE);
}

fn drive_msm(card: &Card) {
    let mut msm = Msm::open(card, MsmOptions::default()).unwrap();
    let points = Points::allocate(card, 2000).unwrap();
    let scalars = Scalars::allocate(card, 2000, ScalarForm::Canonical).unwrap();
    let job = msm.prepare(&points, &scalars).unwrap();
    let mut round = || {
        let ticket = msm.submit(&job).unwrap();
        while msm.poll(ticket).unwrap().is_none() {
            std::hint::spin_loop();
        }
    };
    round();
    forbid_system_calls();
    round();
    end(DONE);
}

fn quiet(test: &str, design: Design, drive: fn(&Card)) {
    if process::is("quiet") {
        return drive(&process::open().unwrap());
    }
    let bench = Bench::new(Options::default(), design);
    let (said, status) = process::finish(process::start(&bench.name(), test, "quiet"));
    assert_eq!((status.code(), status.signal()), (Some(DONE), None), "{said}");
    works_or_is_msm(&bench);
}

/// The process ended without closing anything: the card opens again.
fn works_or_is_msm(bench: &Bench) {
    let card = bench.open();
    if Msm::open(&card, MsmOptions::default()).is_err() {
        works(&card);
    }
}

#[test]
fn transfers_and_programs_make_no_system_call() {
    quiet("card::transfers_and_programs_make_no_system_call", Design::Memory, drive_channels);
}

#[test]
fn an_msm_makes_no_system_call() {
    quiet("card::an_msm_makes_no_system_call", Design::Msm(Model::default()), drive_msm);
}

/// Otherwise the two tests before this one would show nothing.
#[test]
fn a_system_call_would_be_noticed() {
    const ROLE: &str = "noisy";
    if process::is(ROLE) {
        forbid_system_calls();
        let _ = std::os::unix::process::parent_id();
        end(DONE);
    }
    let (_, status) =
        process::finish(process::start(&process::card(), "card::a_system_call_would_be_noticed", ROLE));
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

/// The library handles no signal: who takes a BAR away under a process is told by the kernel.
#[test]
fn registers_that_vanish_end_the_process_by_sigbus() {
    const TEST: &str = "card::registers_that_vanish_end_the_process_by_sigbus";
    if process::is(TEST) {
        let CardName::Pci(address) = process::card() else { panic!("a PCI function was named") };
        let bus = Vfio::open(address, Mode::from_environment().unwrap()).unwrap();
        let bar =
            (0..6).find(|&bar| bus.bar(bar).is_ok_and(|bar| bar.mapped().is_some())).expect("a mapped BAR");
        let bar = bus.bar(bar).unwrap();
        bus.config_write(4, 2, 2).unwrap();
        bar.read32(0).unwrap();
        println!("a register");
        bus.config_write(4, 2, 0).unwrap();
        bar.read32(0).unwrap();
        println!("another");
    }
    let bench = Bench::memory(Options::default());
    let (said, status) = process::finish(process::start(&bench.name(), TEST, TEST));
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{said}");
    assert!(said.contains("a register") && !said.contains("another"), "{said}");
    works(&bench.open());
}
