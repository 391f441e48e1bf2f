//! The card is removed. QEMU does not survive that, so this is the last test of its machine.

use std::time::Instant;
use xdma::channel::{EngineError, SubmitError};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, LIMIT};

#[test]
fn the_kernels_request_to_release_the_card_ends_transfers_immediately() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    h2c.transfer(&source, 0..1 << 20, 0, LIMIT).unwrap();
    println!("host: remove the card");
    let start = Instant::now();
    let error = loop {
        match h2c.transfer(&source, 0..1 << 20, 0, LIMIT) {
            Ok(()) => assert!(start.elapsed() < LIMIT, "the kernel did not request the card"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.engine(), Some(EngineError::Recalled { .. })), "{error}");
    assert!(error.to_string().contains("close the card"), "{error}");
    assert!(matches!(h2c.submit(&source, 0..64, 0), Err(SubmitError::Engine(EngineError::Recalled { .. }))));
    assert!(bench.log().violations.is_empty());
    h2c.close().unwrap();
    println!("vm: passed");
}
