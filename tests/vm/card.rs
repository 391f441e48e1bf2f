//! Tests for every mode.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use xdma::card::{Card, CardError, CardName, CardOptions};
use xdma::channel::{Channel, ChannelOptions, Poll, Ring, Ticket, Transfers};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::Direction;
use xdma::unstable::bus::vfio::{Mode, Vfio};
use xdma::unstable::bus::{Bus, BusError};
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, works};
use xdma_testkit::process;

/// Exit code of a process that succeeded but cannot print anything.
const DONE: i32 = 42;

#[test]
fn the_description_states_how_the_card_is_accessed() {
    let bench = Bench::memory(EmulatorOptions::default());
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
    assert!(bus.resettable || !bench.options().card.function.reset);
    assert_eq!(bus.page_sizes == 0, mode == "noiommu", "{:#x}", bus.page_sizes);
    let text = report.to_string();
    assert!(text.contains(kind) && text.contains("function reset"), "{text}");
}

#[test]
fn a_function_that_is_not_bound_to_vfio_pci_is_refused() {
    // Every machine has a host bridge.
    let bridge: CardName = "0000:00:00.0".parse().unwrap();
    let error = bridge.open(CardOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::NotBound { .. })), "{error}");
    assert!(error.to_string().contains("bind it to vfio-pci"), "{error}");
}

#[test]
fn a_second_process_is_refused() {
    const ROLE: &str = "second";
    if process::is(ROLE) {
        println!("the second process: {}", process::open().unwrap_err());
        return;
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let (output, status) =
        process::finish(process::start(&bench.name(), "card::a_second_process_is_refused", ROLE));
    assert!(status.success() && output.contains("is taken"), "{output}");
    // The tool names the process.
    let tool = Command::new("xdma").args(["info", "--card", &bench.name().to_string()]).output().unwrap();
    let text = String::from_utf8_lossy(&tool.stderr);
    assert!(text.contains(&format!("process {} ", std::process::id())), "{text}");
    works(&card);
}

/// From now on, every system call of this thread kills the process, except `exit_group`.
fn forbid_system_calls() {
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Load the number of the call; allow `exit_group`, and kill the process otherwise.
    let mut filter = [
        instruction((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        instruction((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, libc::SYS_exit_group as u32),
        instruction((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the pointer to `program` is valid during the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

fn end(status: i32) -> ! {
    // SAFETY: this process needs no cleanup.
    unsafe { libc::_exit(status) }
}

fn spin(channel: &mut Channel, ticket: Ticket) {
    while channel.poll(ticket).unwrap() == Poll::Pending {
        std::hint::spin_loop();
    }
}

/// Runs transfers and a program of 2,000 descriptors twice. The first round may make system calls.
fn use_channels(card: &Card) {
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

/// Runs an MSM twice. The first round may make system calls.
fn use_msm(card: &Card) {
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

/// Checks that `work` makes no system calls in its second round.
fn makes_no_system_call(test: &str, design: Design, work: fn(&Card)) {
    if process::is("no system calls") {
        return work(&process::open().unwrap());
    }
    let bench = Bench::new(EmulatorOptions::default(), design);
    let (output, status) = process::finish(process::start(&bench.name(), test, "no system calls"));
    assert_eq!((status.code(), status.signal()), (Some(DONE), None), "{output}");
    works_or_is_msm(&bench);
}

/// Checks that the card can be opened again after a process ended without closing it.
fn works_or_is_msm(bench: &Bench) {
    let card = bench.open();
    if Msm::open(&card, MsmOptions::default()).is_err() {
        works(&card);
    }
}

#[test]
fn transfers_and_programs_make_no_system_call() {
    makes_no_system_call("card::transfers_and_programs_make_no_system_call", Design::Memory, use_channels);
}

#[test]
fn an_msm_makes_no_system_call() {
    makes_no_system_call("card::an_msm_makes_no_system_call", Design::Msm(Model::default()), use_msm);
}

/// Checks that the two previous tests can detect a failure.
#[test]
fn a_system_call_would_be_detected() {
    const ROLE: &str = "system call";
    if process::is(ROLE) {
        forbid_system_calls();
        let _ = std::os::unix::process::parent_id();
        end(DONE);
    }
    let (_, status) =
        process::finish(process::start(&process::card(), "card::a_system_call_would_be_detected", ROLE));
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

/// The library installs no signal handler, so an access to a disabled BAR ends the process.
#[test]
fn vanishing_registers_end_the_process_with_sigbus() {
    const TEST: &str = "card::vanishing_registers_end_the_process_with_sigbus";
    if process::is(TEST) {
        let CardName::Pci(address) = process::card() else { panic!("XDMA_CARD is not a PCI function") };
        let bus = Vfio::open(address, Mode::from_environment().unwrap()).unwrap();
        let bar =
            (0..6).find(|&bar| bus.bar(bar).is_ok_and(|bar| bar.mapped().is_some())).expect("a mapped BAR");
        let bar = bus.bar(bar).unwrap();
        bus.config_write(4, 2, 2).unwrap();
        bar.read32(0).unwrap();
        println!("first read");
        bus.config_write(4, 2, 0).unwrap();
        bar.read32(0).unwrap();
        println!("second read");
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let (output, status) = process::finish(process::start(&bench.name(), TEST, TEST));
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{output}");
    assert!(output.contains("first read") && !output.contains("second read"), "{output}");
    works(&bench.open());
}

/// A forgotten `--card` must not lead to a result from an emulated card.
#[test]
fn the_tool_requires_a_card_to_be_named() {
    let Some(CardName::Pci(address)) = std::env::var("XDMA_CARD").ok().map(|name| name.parse().unwrap())
    else {
        panic!("XDMA_CARD is not a PCI function")
    };
    let tool = |arguments: &str| {
        let output =
            Command::new("xdma").args(arguments.split(' ')).env_remove("XDMA_CARD").output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    for arguments in ["write --address 0 /init", "poke 0 1", "bench --quick", "info", "run -- xdma list"] {
        let (code, text) = tool(arguments);
        assert!(
            code == Some(2) && text.contains(&format!("--card ({address})")),
            "{arguments}: {code:?} {text}"
        );
    }
    let (code, text) = tool("list");
    assert!(code == Some(0) && text.contains(&address.to_string()) && text.contains("vfio-pci"), "{text}");
    assert_eq!(tool("peek 0 --card f1").0, Some(0));
}
