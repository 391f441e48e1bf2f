//! Alone in its process, since others' memory would be seen in smaps too.

use xdma::card::CardOptions;
use xdma::memory::PageSize;
use xdma::regs::Direction;
use xdma_emulator::Profile;

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Hugepages for the length of the test; the machine is left as it was.
struct Reserved {
    before: String,
    enough: bool,
}

impl Reserved {
    fn at_least(pages: u64) -> Self {
        let before = std::fs::read_to_string(NR_HUGEPAGES).unwrap_or_default();
        let there = before.trim().parse::<u64>().unwrap_or(0);
        let enough = there >= pages || std::fs::write(NR_HUGEPAGES, pages.to_string()).is_ok();
        Self { before, enough }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Without permission nothing was changed either.
        let _ = std::fs::write(NR_HUGEPAGES, self.before.trim());
    }
}

#[test]
fn rings_and_completion_words_lie_in_hugepages_where_there_are_some() {
    let reserved = Reserved::at_least(8);
    let card = xdma_emulated_card::start_msm(Profile::F1, CardOptions::default()).unwrap();
    let _channels = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let buffer = card.allocate(64, Direction::H2C).unwrap();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    if buffer.page() != PageSize::Huge2M {
        assert!(card.report().unwrap().small_pages, "the fall-back is in the card's description");
        let why = if reserved.enough { "the kernel has none to give" } else { "only root can reserve them" };
        println!("skipped: no 2 MiB hugepages are free, {why}");
        return;
    }
    // Both pools of the card, ours and those that the emulated card maps, are hugepages as the kernel sees it.
    let pages: Vec<&str> = smaps
        .split("VmFlags")
        .filter(|map| map.contains("/memfd:xdma") || map.contains("anon_hugepage"))
        // No card reads that.
        .filter(|map| !map.contains("/memfd:xdma-statistics"))
        .filter_map(|map| map.lines().find_map(|line| line.strip_prefix("KernelPageSize:")))
        .map(str::trim)
        .collect();
    assert!(pages.len() >= 2, "two pools are mapped: {pages:?}");
    assert!(pages.iter().all(|page| *page == "2048 kB"), "{pages:?}");
}
