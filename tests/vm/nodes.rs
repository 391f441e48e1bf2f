//! Two NUMA nodes, with the card and hugepages of 1 GiB on the second.

use xdma::card::CardOptions;
use xdma::memory::{HugePages, PageSize};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, LIMIT, pattern};

/// Returns the lines of `numa_maps` for the driver's memory, without the statistics, which the card does not access.
fn mappings() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap();
    let is_ours = |line: &&str| line.contains("memfd:xdma") && !line.contains("memfd:xdma-statistics");
    maps.lines().filter(is_ours).map(str::to_string).collect()
}

/// Returns the line of a mapping with pages of this size.
fn mapping(kilobytes: u32) -> String {
    let (maps, size) = (mappings(), format!("kernelpagesize_kB={kilobytes}"));
    let found = maps.iter().find(|line| line.contains(&size));
    found.unwrap_or_else(|| panic!("no such mapping in {maps:?}")).clone()
}

#[test]
fn rings_are_on_the_cards_node() {
    let bench = Bench::memory(EmulatorOptions::default());
    for pages in [HugePages::default(), HugePages::Require(PageSize::Base)] {
        let card = bench.try_open(CardOptions { pages, ..CardOptions::default() }).unwrap();
        // Only rings and write-back words are mapped.
        let channels = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
        let maps = mappings();
        assert!(maps.iter().any(|line| line.contains(" N1=")), "{maps:?}");
        assert!(!maps.iter().any(|line| line.contains(" N0=")), "{maps:?}");
        drop(channels);
    }
}

#[test]
fn memory_is_on_the_cards_node_in_pages_of_1_gib() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    assert_eq!(card.report().unwrap().bus.node, Some(1));
    let (mut h2c, data) = (card.h2c(0).unwrap(), pattern(1 << 20, 9));
    let mut source = card.allocate(1 << 30, Direction::H2C).unwrap();
    assert_eq!(source.page(), PageSize::Huge1G);
    source.write(1023 << 20, &data).unwrap();
    h2c.transfer(&source, 1023 << 20..1024 << 20, 0, LIMIT).unwrap();
    let line = mapping(1 << 20);
    assert!(line.contains(" N1=") && !line.contains(" N0="), "{line}");
}

#[test]
fn small_pages_are_on_the_cards_node() {
    let bench = Bench::memory(EmulatorOptions::default());
    let pages = HugePages::Require(PageSize::Base);
    let card = bench.try_open(CardOptions { pages, ..CardOptions::default() }).unwrap();
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    card.h2c(0).unwrap().transfer(&source, 0..1 << 20, 0, LIMIT).unwrap();
    let line = mapping(4);
    assert!(line.contains(" N1=") && !line.contains(" N0="), "{line}");
}
