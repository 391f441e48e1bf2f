//! `survey`: each shipped description, emulated and surveyed, comes back equal.

use crate::support::{run, xdma};
use xdma_emulator::card_file::{Design, SHIPPED, Setting, Switches};
use xdma_emulator::logic::of;
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// Serves a card, and returns it and the options that name it.
fn served(card: &CardFile) -> (EmulatedCard, String) {
    let emulated = EmulatedCard::start(EmulatorOptions::like(card.clone()), of(card)).unwrap();
    let option = format!("--card unix:{}", emulated.socket().display());
    (emulated, option)
}

/// Returns the option that names memory of a card.
fn scratch(card: &CardFile) -> &'static str {
    // The MSM design has scratch memory only at this address.
    if card.logic.design == Design::Msm.into() { "--scratch 0x50000000" } else { "--scratch 0x10000" }
}

fn survey(arguments: &str) -> CardFile {
    run(&format!("survey {arguments}")).good().parse().unwrap()
}

/// Returns what a survey can find out at most: `card`, with everything else unknown. `probed` states whether experiments were made.
fn observable(card: &CardFile, probed: bool) -> CardFile {
    let mut seen = card.clone();
    (seen.name, seen.notes, seen.logic) = (String::new(), vec![], Default::default());
    for bar in &mut seen.bars {
        bar.reserved = Setting::Unknown;
        if ![card.register_bar(), card.interrupt_bar()].contains(&Some(bar.index)) {
            bar.holds = Setting::Unknown;
        }
    }
    let (streams, switches) = (card.is_stream(), card.switches);
    let keep = |may: bool, setting| if may { setting } else { Setting::Unknown };
    seen.channels.credits = keep(probed, seen.channels.credits);
    if streams || !probed {
        seen.channels.fixed_address = Setting::Unknown;
    }
    let quiet_stream = probed && streams && card.channels.c2h > 0 && card.function.reset;
    let ends = quiet_stream && switches.stop_ends_idle_stream.or(true);
    seen.switches = Switches {
        busy_without_credits: keep(probed && card.channels.credits.or(true), switches.busy_without_credits),
        stop_clears_run: keep(probed && !streams, switches.stop_clears_run),
        unlogged_errors_stop: keep(probed && !streams, switches.unlogged_errors_stop),
        error_write_back: keep(probed, switches.error_write_back),
        aligned_fetch: keep(probed && !streams, switches.aligned_fetch),
        stop_ends_idle_stream: keep(quiet_stream, switches.stop_ends_idle_stream),
        narrow_stream_buffers: keep(ends && card.beat() < 64, switches.narrow_stream_buffers),
        busy_lag_us: if probed && !streams { switches.busy_lag_us } else { Setting::Unknown },
    };
    seen
}

fn anonymous(mut card: CardFile) -> CardFile {
    assert!(card.name.starts_with("Surveyed card") && card.notes.len() == 1, "{card:?}");
    (card.name, card.notes) = (String::new(), vec![]);
    card
}

/// Returns the registers of the core that keep what is written.
fn writable(option: &str) -> Vec<String> {
    let registers = run(&format!("regs {option}")).good();
    let lines: Vec<_> = registers.lines().filter(|line| line.contains(" RW ")).map(String::from).collect();
    assert!(lines.len() > 20, "{registers}");
    lines
}

#[test]
fn every_shipped_description_comes_back_equal() {
    for (name, _) in SHIPPED {
        let card = CardFile::shipped(name).unwrap();
        let (emulated, option) = served(&card);
        assert_eq!(anonymous(survey(&option)), observable(&card, false), "{name}");
        let written = emulated.counters().register_writes;
        assert_eq!(written, 0, "{name}: a survey writes no register");
        let registers = writable(&option);
        let probed = survey(&format!("{option} --probe --streams {}", scratch(&card)));
        assert_eq!(anonymous(probed), observable(&card, true), "{name}");
        assert_eq!(writable(&option), registers, "{name}: the card is left as found");
    }
}

/// Every switch, one at a time, is found by its experiment.
#[test]
fn every_switch_is_found() {
    let switches = [
        "busy_without_credits = true",
        "stop_clears_run = true",
        "unlogged_errors_stop = true",
        "error_write_back = true",
        "aligned_fetch = false",
        "stop_ends_idle_stream = false",
        "narrow_stream_buffers = false",
    ];
    for text in switches {
        for name in ["f1", "msi", "streams"] {
            let mut card = CardFile::shipped(name).unwrap();
            let change = format!("[switches]\n{text}");
            let changed: toml::Table = change.parse().unwrap();
            let changed: Switches = changed["switches"].clone().try_into().unwrap();
            card.switches = changed.over(card.switches);
            card.function.reset = true;
            let (_emulated, option) = served(&card);
            let probed = survey(&format!("{option} --probe --streams {}", scratch(&card)));
            assert_eq!(anonymous(probed), observable(&card, true), "{name}: {text}");
        }
    }
}

#[test]
fn a_lag_of_busy_is_measured() {
    let mut card = CardFile::alveo();
    card.switches.busy_lag_us = 3000.into();
    card.channels.credits = false.into();
    let (_emulated, option) = served(&card);
    let probed = survey(&format!("{option} --probe {}", scratch(&card)));
    let lag = probed.switches.busy_lag_us.known().unwrap();
    assert!((1000..1_000_000).contains(&lag), "{lag}");
    assert_eq!(probed.channels.credits, false.into());
}

#[test]
fn a_surveyed_card_can_be_emulated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("card.toml");
    let (_emulated, option) = served(&CardFile::shipped("three-and-one").unwrap());
    run(&format!("survey {option} --output {}", path.display())).good();
    let again = xdma(&format!("survey --card {}", path.display())).output().unwrap();
    assert!(again.status.success());
    let first: CardFile = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap().parse::<CardFile>().unwrap(), first);
}

#[test]
fn a_probe_needs_scratch_memory() {
    run("survey --probe").bad(2, &["--scratch"]);
    run("survey --probe --scratch 5").bad(2, &["multiple of 4096"]);
    run("survey --probe --scratch 0xfffffffffffff000").bad(2, &["64 KiB"]);
    run("survey --scratch 0").bad(2, &["--probe"]);
    run("survey --output /no/such/directory/card.toml").bad(1, &["cannot write"]);
}

/// The experiments break rules of the core on purpose, so violations are logged only on request.
#[test]
fn an_emulated_card_does_not_complain_about_experiments() {
    let probe = "survey --card f1 --logic memory --probe --scratch 0";
    let lenient = |probe| {
        let mut command = xdma(probe);
        command.env_remove("XDMA_STRICT");
        command
    };
    let output = lenient(probe).env_remove("RUST_LOG").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.lines().all(|line| line.contains("hugepages")), "{log}");

    let asked = lenient(probe).env("RUST_LOG", "warn").output().unwrap();
    let log = String::from_utf8(asked.stderr).unwrap();
    assert!(log.contains("the driver broke a rule") && log.contains("times="), "{log}");
}

/// An experiment that fails does not lose what was found out before.
#[test]
fn a_failed_probe_still_writes_the_description() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("card.toml");
    let shown = run(&format!("survey --probe --scratch 0 --output {}", path.display()));
    shown.bad(2, &["64 KiB of memory at --scratch 0x0", "nothing answers"]);
    let card: CardFile = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    assert!(card.notes[1].starts_with("the experiments ended early"), "{:?}", card.notes);
    assert_eq!(card.channels.credits, true.into());
    // A file that would not be written is not created.
    let path = directory.path().join("never.toml");
    run(&format!("survey --card unix:/nonexistent --output {}", path.display())).bad(3, &[]);
    assert!(!path.exists());
}

/// What the format cannot express does not keep the rest from being described.
#[test]
fn an_odd_card_is_described_with_a_note() {
    let mut card = CardFile::alveo();
    (card.function.link.generation, card.function.link.lanes) = (0, 12);
    card.function.link.max_lanes = 12;
    let (_emulated, option) = served(&card);
    assert_eq!(survey(&option).function.link, card.function.link);
}
