//! Without an IOMMU, nothing confines the card to mapped memory.

use crate::remapping_bus::open;
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, LIMIT, pattern};

const LEN: usize = 4096;

#[test]
fn unmapped_memory_can_still_be_read() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, bus) = open();
    let data = pattern(LEN, 1);
    let (_memory, address) = bus.map_and_unmap(&data);
    let source = bus.buffer_at(&card, address, Direction::H2C);
    card.h2c(0).unwrap().transfer(source, 0..LEN as u64, 0, LIMIT).unwrap();
    let sink = card.allocate(LEN as u64, Direction::C2H).unwrap();
    card.c2h(0).unwrap().transfer(&sink, 0..LEN as u64, 0, LIMIT).unwrap();
    let mut seen = vec![0; LEN];
    sink.read(0, &mut seen).unwrap();
    assert!(seen == data, "the card read unmapped memory");
    assert!(bench.log().dma_faults.is_empty());
}
