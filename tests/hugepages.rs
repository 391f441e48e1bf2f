//! Placement of memory in hugepages. This test needs its own process: `smaps` would also show the memory of other tests.

use xdma::card::CardOptions;
use xdma::memory::PageSize;
use xdma::regs::Direction;
use xdma_emulator::CardFile;

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Reserves hugepages for the duration of the test.
struct Reserved {
    before: String,
    enough: bool,
}

impl Reserved {
    fn at_least(pages: u64) -> Self {
        let before = std::fs::read_to_string(NR_HUGEPAGES).unwrap_or_default();
        let reserved = before.trim().parse::<u64>().unwrap_or(0);
        let enough = reserved >= pages || std::fs::write(NR_HUGEPAGES, pages.to_string()).is_ok();
        Self { before, enough }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Without permission, the reservation was not changed either.
        let _ = std::fs::write(NR_HUGEPAGES, self.before.trim());
    }
}

#[test]
fn rings_and_write_back_words_are_in_hugepages_if_available() {
    let reserved = Reserved::at_least(8);
    let card = xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default()).unwrap();
    let _channels = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let buffer = card.allocate(64, Direction::H2C).unwrap();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    if buffer.page() != PageSize::Huge2M {
        assert!(card.report().unwrap().small_pages, "the card's description includes the fallback");
        let why =
            if reserved.enough { "the kernel cannot provide any" } else { "only root can reserve them" };
        println!("skipped: no 2 MiB hugepages are free, {why}");
        return;
    }
    // According to the kernel, the pools of both the driver and the emulated card, which maps them too, are in hugepages.
    let pages: Vec<&str> = smaps
        .split("VmFlags")
        .filter(|map| map.contains("/memfd:xdma") || map.contains("anon_hugepage"))
        // Cards do not access the statistics.
        .filter(|map| !map.contains("/memfd:xdma-statistics"))
        .filter_map(|map| map.lines().find_map(|line| line.strip_prefix("KernelPageSize:")))
        .map(str::trim)
        .collect();
    assert!(pages.len() >= 2, "two pools are mapped: {pages:?}");
    assert!(pages.iter().all(|page| *page == "2048 kB"), "{pages:?}");
}
