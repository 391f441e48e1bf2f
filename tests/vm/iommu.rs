//! The IOMMU confines the card to mapped memory.

use crate::remapping_bus::open;
use xdma::card::Card;
use xdma::channel::EngineError;
use xdma::memory::Buffer;
use xdma::regs::Direction;
use xdma_emulator::{DmaFaultReason, EmulatorOptions};
use xdma_testkit::bench::{Bench, LIMIT, pattern};

const LEN: u64 = 4096;

/// Checks that the card cannot read `buffer` at `address`, and that the channel works after a recovery.
#[track_caller]
fn refused(bench: &Bench, card: &Card, buffer: &Buffer, address: u64) {
    let mut h2c = card.h2c(0).unwrap();
    let error = h2c.transfer(buffer, 0..LEN, 0, LIMIT).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    assert!(error.to_string().contains("host memory read refused"), "{error}");
    let fault = *bench.log().dma_faults.last().expect("the card logged a fault");
    assert_eq!((fault.iova, fault.write, fault.reason), (address, false, DmaFaultReason::Unmapped));
    h2c.recover().unwrap();
    let good = card.allocate(LEN, Direction::H2C).unwrap();
    h2c.transfer(&good, 0..LEN, 0, LIMIT).unwrap();
}

#[test]
fn an_address_that_was_never_mapped_is_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, bus) = open();
    for address in [1 << 33, 1 << 38] {
        refused(&bench, &card, bus.buffer_at(&card, address, Direction::H2C), address);
    }
}

#[test]
fn unmapped_memory_is_refused() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, bus) = open();
    let (_memory, address) = bus.map_and_unmap(&pattern(LEN as usize, 1));
    refused(&bench, &card, bus.buffer_at(&card, address, Direction::H2C), address);
}

/// Writes are posted, so the error is reported neither to the card nor to the driver. Only the data is missing.
#[test]
fn a_write_to_unmapped_memory_is_dropped_silently() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, bus) = open();
    let sink = bus.buffer_at(&card, 1 << 33, Direction::C2H);
    let mut c2h = card.c2h(0).unwrap();
    let ended = c2h.transfer(sink, 0..LEN, 0, LIMIT);
    let fault = *bench.log().dma_faults.last().expect("the card logged a fault");
    assert_eq!((fault.iova, fault.write, fault.reason), (1 << 33, true, DmaFaultReason::Unmapped));
    ended.expect("no error is reported");
}

#[test]
fn read_only_memory_is_not_written() {
    let bench = Bench::memory(EmulatorOptions::default());
    let (card, bus) = open();
    let data = pattern(LEN as usize, 2);
    let (memory, address) = bus.map_read_only(&data);
    let mut c2h = card.c2h(0).unwrap();
    let sink = bus.buffer_at(&card, address, Direction::C2H);
    c2h.transfer(sink, 0..LEN, 0, LIMIT).expect("posted writes report nothing");
    let fault = *bench.log().dma_faults.last().expect("the card logged a fault");
    assert_eq!((fault.iova, fault.write, fault.reason), (address, true, DmaFaultReason::Permission));
    assert!(memory[..LEN as usize] == data);
}
