//! A user without privileges who is in the group of the card's nodes.

use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, LIMIT, pattern};

#[test]
fn exceeding_the_limit_of_locked_memory_is_explained() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let error = card.allocate(80 << 20, Direction::H2C).unwrap_err().to_string();
    assert!(error.contains("RLIMIT_MEMLOCK") && error.contains("hugepages count"), "{error}");
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    card.h2c(0).unwrap().transfer(&source, 0..1 << 20, 0, LIMIT).unwrap();
}

#[test]
fn the_card_works_without_root_and_without_capabilities() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert!(!line("Uid:").split_whitespace().any(|id| id == "0"), "{}", line("Uid:"));
    assert_eq!((line("CapEff:"), line("CapPrm:")), ("0000000000000000", "0000000000000000"));
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let data = pattern(3 << 20, 8);
    // A registered vector, and an allocated buffer.
    let source = card.register(data.clone(), Direction::H2C).unwrap();
    let sink = card.allocate(3 << 20, Direction::C2H).unwrap();
    h2c.transfer(&source, 0..3 << 20, 0, LIMIT).unwrap();
    c2h.transfer(&sink, 0..3 << 20, 0, LIMIT).unwrap();
    let mut seen = vec![0; 3 << 20];
    sink.read(0, &mut seen).unwrap();
    assert!(seen == data);
}
