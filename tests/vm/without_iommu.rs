//! Without an IOMMU nothing keeps the card in its bounds. That is what the mode's name warns of, and it is shown here.

use crate::raw::open;
use xdma::regs::Direction;
use xdma_emulator::Options;
use xdma_testkit::bench::{Bench, LIMIT, pattern};

const LEN: usize = 4096;

#[test]
fn memory_that_was_taken_back_is_still_read() {
    let bench = Bench::memory(Options::default());
    let (card, bus) = open();
    let data = pattern(LEN, 1);
    let (_memory, address) = bus.mapped_once(&data);
    let stray = bus.buffer_at(&card, address, Direction::H2C);
    card.h2c(0).unwrap().transfer(stray, 0..LEN as u64, 0, LIMIT).unwrap();
    let sink = card.allocate(LEN as u64, Direction::C2H).unwrap();
    card.c2h(0).unwrap().transfer(&sink, 0..LEN as u64, 0, LIMIT).unwrap();
    let mut seen = vec![0; LEN];
    sink.read(0, &mut seen).unwrap();
    assert!(seen == data, "the card read what it was not given");
    assert!(bench.log().dma_faults.is_empty());
}
