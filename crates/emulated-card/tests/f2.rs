//! The driver on the simulated F2 image: the engine, the shell's counters, and what the shell can do to it.

use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions, Source};
use xdma::regs::{Direction, msm};
use xdma_emulated_card::connect;
use xdma_emulator::logic::{InImage, Logic, Memory};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

const LIMIT: Duration = Duration::from_secs(60);

fn start(logic: Arc<dyn Logic>) -> EmulatedCard {
    EmulatedCard::start(EmulatorOptions::like(CardFile::f2()), logic).unwrap()
}

fn open(emulated: &EmulatedCard) -> Card {
    let options = CardOptions { idle_limit: Duration::from_millis(500), ..CardOptions::default() };
    connect(emulated, options).unwrap()
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed * 77) as u8).collect()
}

/// Sends bytes to a card address and reads them back.
fn round_trip(card: &Card, address: u64, len: usize) {
    let data = pattern(len, len);
    let mut source = card.allocate(len as u64 + 64, Direction::H2C).unwrap();
    let sink = card.allocate(len as u64 + 64, Direction::C2H).unwrap();
    let at = len % 61;
    source.write(at as u64, &data).unwrap();
    let range = at as u64..(at + len) as u64;
    card.h2c(0).unwrap().transfer(&source, range.clone(), address, LIMIT).unwrap();
    card.c2h(0).unwrap().transfer(&sink, range.clone(), address, LIMIT).unwrap();
    let mut back = vec![0; len];
    sink.read(range.start, &mut back).unwrap();
    assert!(back == data, "{len} bytes at {address:#x}");
}

/// Asserts that the shell refused nothing.
fn assert_no_errors(emulated: &EmulatedCard) {
    let metrics = emulated.shell_metrics().unwrap();
    let bad: Vec<_> = metrics
        .iter()
        .filter(|(name, count)| (name.contains("error") || name.contains("timeout")) && **count > 0)
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(emulated.violations(), []);
    assert_eq!(emulated.dma_faults(), []);
}

#[test]
fn transfers_of_any_alignment_keep_the_shells_rules() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    for (address, len) in
        [(0x1000, 4096), (0x2003, 1), (0x3fff, 2), (0x4ffd, 4099), (0x1_0000_0040, 70_000), (7, 777)]
    {
        round_trip(&card, address, len);
    }
    let metrics = emulated.shell_metrics().unwrap();
    assert!(metrics["pcim-read-count"] > 20_000 && metrics["pcim-write-count"] > 19_000, "{metrics:?}");
    assert_no_errors(&emulated);
}

#[test]
fn bar_4_and_the_engine_reach_the_same_addresses() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    let bar = xdma::unstable::card::bar(&card, 4).unwrap();
    let mut source = card.allocate(4096, Direction::H2C).unwrap();
    source.write(0, &pattern(4096, 1)).unwrap();
    card.h2c(0).unwrap().transfer(&source, 0..4096, 0x5000, LIMIT).unwrap();
    for at in [0, 4, 64, 4092] {
        let expected = u32::from_le_bytes(pattern(4096, 1)[at..at + 4].try_into().unwrap());
        assert_eq!(bar.read32(0x5000 + at as u64).unwrap(), expected, "{at}");
    }
    bar.write32(0x5008, 0x1234_5678).unwrap();
    let sink = card.allocate(4096, Direction::C2H).unwrap();
    card.c2h(0).unwrap().transfer(&sink, 0..4096, 0x5000, LIMIT).unwrap();
    let mut back = [0; 16];
    sink.read(0, &mut back).unwrap();
    let expected = pattern(16, 1);
    assert_eq!(
        (&back[..8], &back[8..12], &back[12..]),
        (&expected[..8], &[0x78, 0x56, 0x34, 0x12][..], &expected[12..])
    );
    assert_no_errors(&emulated);
}

#[test]
fn a_function_reset_leaves_a_working_engine() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    for round in 0..3 {
        round_trip(&card, 0x1000, 5000 + round);
        card.reset().unwrap();
    }
    round_trip(&card, 0x1000, 5000);
    assert_no_errors(&emulated);
}

#[test]
fn a_dead_pcim_is_reported_and_another_image_revives_it() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    round_trip(&card, 0x1000, 5000);
    emulated.kill_pcim();
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let mut h2c = card.h2c(0).unwrap();
    let error = h2c.transfer(&source, 0..4096, 0, Duration::from_millis(200)).unwrap_err();
    assert!(error.to_string().contains("200"), "{error}");
    drop((source, h2c, card));
    emulated.load(EmulatorOptions::like(CardFile::f2()), Arc::new(Memory::new())).unwrap();
    let card = open(&emulated);
    round_trip(&card, 0x1000, 5000);
    assert_no_errors(&emulated);
}

/// All of `cl_f2`: the registers behind the engine's, and the scratch window through the engine and through BAR4.
#[test]
fn the_design_in_the_image_answers() {
    let emulated = start(Arc::new(InImage));
    let card = open(&emulated);
    let user = card.user().unwrap();
    assert_eq!(user.read(msm::EXTENSION_ID).unwrap(), msm::EXTENSION_ID_VALUE);
    round_trip(&card, msm::SCRATCH_WINDOW + 4096, 3000);
    let bar = xdma::unstable::card::bar(&card, 4).unwrap();
    bar.write32(msm::SCRATCH_WINDOW, 0xabcd_ef01).unwrap();
    bar.write32(msm::SCRATCH_WINDOW + 68, 7).unwrap();
    assert_eq!(bar.read32(msm::SCRATCH_WINDOW).unwrap(), 0xabcd_ef01);
    assert_eq!(bar.read32(msm::SCRATCH_WINDOW + 68).unwrap(), 7);
    card.reset().unwrap();
    assert_eq!(card.user().unwrap().read(msm::EXTENSION_ID).unwrap(), msm::EXTENSION_ID_VALUE);
    round_trip(&card, msm::SCRATCH_WINDOW, 64);
    assert_no_errors(&emulated);
}

/// The cards that differ from the shipped one in one fact on which sources disagree.
fn contradictions() -> Vec<(&'static str, CardFile)> {
    let with = |change: fn(&mut CardFile)| {
        let mut card = CardFile::f2();
        change(&mut card);
        card
    };
    vec![
        ("64 reads under way", with(|card| card.shell.outstanding_reads = 64.into())),
        ("8 reads under way", with(|card| card.shell.outstanding_reads = 8.into())),
        ("one read for each ID", with(|card| card.shell.one_read_per_id = true.into())),
        ("masked lines are acknowledged", with(|card| card.shell.ack_masked = true.into())),
        ("128 bytes reported", with(|card| card.shell.reported_payload = 128.into())),
        ("512 bytes reported", with(|card| card.shell.reported_payload = 512.into())),
        ("1024 bytes reported", with(|card| card.shell.reported_payload = 1024.into())),
        ("payloads of 128 bytes", with(|card| card.function.max_payload = 128)),
        ("payloads of 512 bytes", with(|card| card.function.max_payload = 512)),
        ("no function-level reset", with(|card| card.function.reset = false)),
    ]
}

#[test]
fn the_driver_works_whichever_of_the_contradicting_sources_is_right() {
    for (what, description) in contradictions() {
        println!("{what}");
        let options = EmulatorOptions::like(description.clone());
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
        let card = open(&emulated);
        for (address, len) in [(0x1000, 64), (0x2003, 4099), (0x1_0000_0040, 40_000)] {
            round_trip(&card, address, len);
        }
        let line = card.interrupt(Source::User(3)).unwrap();
        for _ in 0..3 {
            card.user().unwrap().write(Memory::USER_IRQ as u32, 1 << 3).unwrap();
            assert_eq!(line.wait(LIMIT).unwrap(), 1);
            card.user().unwrap().write(Memory::USER_IRQ as u32, 0).unwrap();
        }
        drop(line);
        assert_eq!(card.reset().is_ok(), description.function.reset, "{what}");
        round_trip(&card, 0x1000, 5000);
        assert_no_errors(&emulated);
    }
}
