//! `selftest`: passes on every description, and stops at the right step for each fault and each wrong switch.

use crate::support::{interrupt, json, piped, run, run_experiments, xdma};
use serde_json::Value;
use std::time::{Duration, Instant};
use xdma::regs::Direction;
use xdma_emulator::card_file::{Alignment, Design, MemoryRange, SHIPPED, Switches};
use xdma_emulator::faults::{BadCompletion, FaultDuration, Injection, Kind, Plan};
use xdma_emulator::logic::{Memory, of};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions, Latency};
use xdma_testkit::schema::check_output;

const STEPS: [&str; 12] = [
    "identity",
    "link",
    "idle",
    "register",
    "write-back",
    "descriptor",
    "behaviour",
    "rings",
    "interrupts",
    "sizes",
    "load",
    "reset",
];

/// Runs the self-test on a card, and returns its report and exit code.
fn selftest(options: EmulatorOptions, arguments: &str) -> (Value, i32) {
    let logic: std::sync::Arc<dyn xdma_emulator::logic::Logic> =
        match options.card.logic.design == Design::Loopback.into() {
            true => of(&options.card),
            false => std::sync::Arc::new(Memory::new()),
        };
    let card = EmulatedCard::start(options, logic).unwrap();
    let command = format!("selftest --card unix:{} --load 0.1 --json {arguments}", card.socket().display());
    let output = xdma(&command).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // If a step failed, the report is followed by the error as another object.
    let report = text.lines().next().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    check_output("xdma", "selftest", &text);
    (
        serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {text}")),
        output.status.code().unwrap(),
    )
}

/// Asserts that the steps before `step` succeeded, that `step` failed with a text that contains `part`, and that the others were not
/// run.
#[track_caller]
fn stops_at((report, code): (Value, i32), step: &str, part: &str) {
    let at = STEPS.iter().position(|name| *name == step).unwrap();
    for (number, (name, seen)) in STEPS.iter().zip(report["steps"].as_array().unwrap()).enumerate() {
        let result = seen["result"].as_str().unwrap();
        let expected: &[&str] = match number {
            _ if number < at => &["ok", "skipped"],
            _ if number == at => &["failed"],
            _ => &["not run"],
        };
        assert_eq!(seen["step"], *name);
        assert!(expected.contains(&result), "expected {step} to fail: {report:#}");
    }
    let seen = &report["steps"][at];
    assert!(seen["seen"].as_str().unwrap().contains(part), "{part:?} is not in {seen:#}");
    assert!(seen["means"].as_str().unwrap().len() > 20);
    assert_eq!(code, 6);
}

#[test]
fn every_description_passes() {
    for (name, _) in SHIPPED {
        let card = CardFile::shipped(name).unwrap();
        let (report, code) = selftest(EmulatorOptions::like(card), "--scratch 0x10000 --loopback --reset");
        assert_eq!(code, 0, "{name}: {report:#}");
        assert_eq!(report["emulated"], true);
        let results = report["steps"].as_array().unwrap().iter().map(|step| step["result"].as_str().unwrap());
        assert!(results.clone().all(|result| result == "ok" || result == "skipped"), "{name}: {report:#}");
        assert!(results.filter(|result| *result == "ok").count() >= 9, "{name}: {report:#}");
    }
}

/// Returns a card with a fault that happens again and again.
fn faulty(fault: impl Into<Injection>) -> EmulatorOptions {
    let mut card = CardFile::alveo();
    card.function.reset = true;
    let faults = Plan { faults: vec![fault.into().times(1_000_000)] };
    EmulatorOptions { faults, ..EmulatorOptions::like(card) }
}

/// Checks that a fault stops the test at this step.
fn stops_with(fault: Kind, step: &str, part: &str) {
    let mut options = faulty(fault);
    if fault == Kind::WriteBackEarly {
        let completion = Duration::from_millis(100);
        options.latency = Latency { completion, ..Latency::default() };
    }
    println!("{fault:?}");
    stops_at(selftest(options, "--scratch 0 --reset"), step, part);
}

#[test]
fn each_fault_stops_the_test_at_its_step() {
    use Kind::*;
    let (ever, late) = (FaultDuration::Forever, 300);
    let table: [(Kind, &str, &str); 22] = [
        (BadMagic, "write-back", "without the magic number"),
        (Fetch(BadCompletion::UnsupportedRequest), "write-back", "descriptor fetch refused"),
        (HostRead(BadCompletion::Poisoned), "write-back", "poisoned"),
        (HostWriteDropped, "descriptor", "came back as"),
        (WriteBackDropped, "write-back", "the write-back in host memory is 0x0"),
        (WriteBackDelayed(late), "write-back", "later the write-back in host memory is"),
        (WriteBackRepeated, "write-back", "the write-back in host memory is 0x1"),
        // On a busy machine, the count may be read so late that only the second list shows the fault.
        (WriteBackEarly, "write-back", "when the engine had counted"),
        // On a busy machine, the wait for the first interrupt fails before the sleeps do.
        (InterruptLost, "interrupts", "interrupt"),
        (InterruptRepeated, "interrupts", "caused 2 interrupts"),
        (InterruptLate(late), "interrupts", "interrupt"),
        (AxiSlaveError, "write-back", "AXI slave error"),
        (AxiDecodeError, "write-back", "AXI decode error"),
        (AxiHang(ever), "write-back", "busy after a second"),
        (AxiWriteLost, "descriptor", "came back as"),
        (BusyStuck(ever), "idle", "reset"),
        (StatusStuck(0x10), "idle", "cannot be cleared"),
        (CountJump(5), "write-back", "counted"),
        (AllOnes(ever), "identity", "gone"),
        (ResetIneffective, "reset", "after a reset"),
        (ResetClears, "reset", "other contents"),
        (LinkDown, "identity", "gone"),
    ];
    // In parallel, since most of them wait for the card.
    std::thread::scope(|scope| {
        for cases in table.chunks(6) {
            scope.spawn(|| cases.iter().for_each(|&(fault, step, part)| stops_with(fault, step, part)));
        }
    });
    // A link that comes up is no fault, and a process that ends leaves no card.
    let tested = table.map(|(fault, ..)| fault.name());
    let others: Vec<_> =
        Kind::ALL.iter().map(|kind| kind.name()).filter(|name| !tested.contains(name)).collect();
    assert_eq!(others, ["LinkUp", "ProcessGone"]);
    let (report, code) = selftest(faulty(LinkUp), "--scratch 0");
    assert_eq!(code, 0, "{report:#}");
    stops_at(selftest(faulty(ProcessGone), "--scratch 0"), "identity", "");
}

/// Each switch, and each other point that an experiment decides, differs from the description.
#[test]
fn each_wrong_switch_is_named() {
    let table = [
        ("busy_without_credits", "true"),
        ("stop_clears_run", "true"),
        ("unlogged_errors_stop", "true"),
        ("error_write_back", "true"),
        ("aligned_fetch", "false"),
    ];
    for (name, value) in table {
        let text = format!("{name} = {value}");
        let switches: Switches = toml::from_str(&text).unwrap();
        let options = EmulatorOptions::like(CardFile::alveo()).with_switches(switches);
        stops_at(
            selftest(options, "--scratch 0 --card-file alveo"),
            "behaviour",
            &format!("switches.{name} is {value}"),
        );
    }
    let options = EmulatorOptions::like(CardFile::alveo()).with_credits(false);
    stops_at(selftest(options, "--scratch 0 --card-file alveo"), "behaviour", "channels.credits is false");
    for (name, value) in [("stop_ends_idle_stream", "false"), ("narrow_stream_buffers", "false")] {
        let mut card = CardFile::shipped("streams").unwrap();
        card.function.reset = true;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("card.toml");
        std::fs::write(&path, card.to_toml()).unwrap();
        let switches: Switches = toml::from_str(&format!("{name} = {value}")).unwrap();
        let options = EmulatorOptions::like(card).with_switches(switches);
        let arguments = format!("--loopback --reset --card-file {}", path.display());
        stops_at(selftest(options, &arguments), "behaviour", &format!("switches.{name} is {value}"));
    }
}

#[test]
fn another_card_than_described_is_found_at_once() {
    let card = CardFile::shipped("three-and-one").unwrap();
    let wrong = selftest(EmulatorOptions::like(card), "--scratch 0 --card-file alveo");
    stops_at(wrong, "identity", "channels.c2h is 1, not 4");
}

#[test]
fn a_report_has_the_survey_and_says_that_the_card_is_emulated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.txt");
    let arguments =
        format!("selftest --card alveo --logic memory --scratch 0 --load 0.1 --report {}", path.display());
    let shown = run_experiments(&arguments).good();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), shown);
    assert!(shown.starts_with("self-test of alveo, an emulated card\n"), "{shown}");
    let (_, survey) = shown.split_once("(card.toml):\n").unwrap();
    let survey: CardFile = survey.parse().unwrap();
    assert_eq!(survey.switches.aligned_fetch, true.into());
    // Without permission, nothing is overwritten.
    let careful = json("selftest --card alveo --logic memory");
    assert_eq!(careful["steps"][5]["result"], "skipped");
}

/// A fault of one channel is found on a board whose other direction has fewer channels, and on any channel.
#[test]
fn a_faulty_channel_is_named() {
    let on = |board: &str, fault: Kind, direction, index| {
        let faults = Plan { faults: vec![fault.on(direction, index).times(1_000_000)] };
        let card = CardFile::shipped(board).unwrap();
        EmulatorOptions { faults, ..EmulatorOptions::like(card) }
    };
    for index in 0..3 {
        let options = on("three-and-one", Kind::AxiWriteLost, Direction::H2C, index);
        stops_at(selftest(options, "--scratch 0"), "descriptor", &format!("channel {index}"));
    }
    for (direction, index) in [(Direction::H2C, 3), (Direction::C2H, 2)] {
        let options = on("alveo", Kind::InterruptRepeated, direction, index);
        let part = format!("{direction} channel {index}: one transfer caused 2 interrupts");
        stops_at(selftest(options, "--scratch 0"), "interrupts", &part);
    }
}

/// A card that states alignments gets only transfers that keep to them.
#[test]
fn stated_alignments_are_kept() {
    let mut card = CardFile::alveo();
    card.channels.alignment = Alignment { address: 64, length: 32 };
    let (report, code) = selftest(EmulatorOptions::like(card), "--scratch 0");
    assert_eq!(code, 0, "{report:#}");
    let sizes = &report["steps"][9];
    assert!(sizes["seen"].as_str().unwrap().contains("aligned to 64 and lengths to 32"), "{sizes}");
}

#[test]
fn an_untrained_link_is_found() {
    let mut card = CardFile::alveo();
    (card.function.link.generation, card.function.link.lanes) = (0, 0);
    stops_at(selftest(EmulatorOptions::like(card), ""), "link", "0 lanes");
}

/// Without permission, a stream keeps its data and the function is not reset.
#[test]
fn a_stream_is_left_alone() {
    let mut card = CardFile::shipped("streams").unwrap();
    card.function.reset = true;
    let card = EmulatedCard::start(EmulatorOptions::like(card.clone()), of(&card)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packet");
    std::fs::write(&path, [7; 640]).unwrap();
    let option = format!("--card unix:{}", card.socket().display());
    run(&format!("write {option} --stream {}", path.display())).good();
    let report = json(&format!("selftest {option}"));
    assert_eq!(report["steps"][6]["result"], "skipped");
    let survey = run(&format!("survey {option} --probe")).good();
    assert!(survey.contains("stop_ends_idle_stream = \"unknown\""), "{survey}");
    assert_eq!(card.counters().c2h_bytes, 0);
    run(&format!("read {option} --stream {}", path.display())).good();
    assert_eq!(std::fs::read(&path).unwrap(), [7; 640]);
}

/// Errors that say nothing about the card are no results of a test.
#[test]
fn a_card_that_cannot_be_opened_is_not_a_failed_test() {
    run("selftest --card unix:/nonexistent/card").bad(3, &["no card at"]);
    let (card, option) = crate::support::memory();
    let client = xdma_emulated_card::connect(&card, xdma::card::CardOptions::default()).unwrap();
    run(&format!("selftest {option}")).bad(3, &[]);
    drop(client);
    let before = card.counters().register_writes;
    run(&format!("selftest {option} --scratch 5")).bad(2, &["a multiple of 4096"]);
    run(&format!("selftest {option} --report /nonexistent/report")).bad(1, &["cannot write"]);
    assert_eq!(card.counters().register_writes, before, "nothing was started");
    // Memory that ends early is found where data is moved for the first time.
    let mut small = CardFile::alveo();
    small.logic.design = Design::Memory.into();
    small.logic.memory = vec![MemoryRange { address: 0, size: 32 << 10 }].into();
    let card = EmulatedCard::start(EmulatorOptions::like(small.clone()), of(&small)).unwrap();
    let option = format!("--card unix:{}", card.socket().display());
    run(&format!("selftest {option} --scratch 0")).bad(6, &["`descriptor`"]);
}

/// Ctrl-C ends the test between two transfers: the report says so, and the card is idle.
#[test]
fn an_interrupted_test_leaves_the_card_idle() {
    let (_card, option) = crate::support::memory();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let child = piped(&format!("selftest {option} --scratch 0 --load 60 --report {}", path.display()));
    let begin = Instant::now();
    let sizes_passed = || std::fs::read_to_string(&path).is_ok_and(|text| text.contains("sizes"));
    while !sizes_passed() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the load test does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("load        interrupted") && shown.contains("(card.toml)"), "{shown}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), shown);
    let regs = run(&format!("regs {option}")).good();
    let controls: Vec<_> = regs.lines().filter(|line| line.contains(" control ")).collect();
    assert_eq!(controls.len(), 8);
    assert!(controls.iter().all(|line| line.contains("0x00000000")), "{controls:?}");
}
