//! The card's process dies during a transfer. The kernel then waits for the card for a minute, so this is the last test of its
//! machine.

use std::time::{Duration, Instant};
use xdma::card::CardError;
use xdma::channel::{CloseError, EngineError, Poll};
use xdma::regs::Direction;
use xdma::regs::msm::SCALAR_WINDOW;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT};

#[test]
fn a_card_that_dies_during_a_transfer_is_gone() {
    let bench =
        Bench::new(EmulatorOptions::default(), Design::Msm(Model { watchdog: 0, ..Model::default() }));
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let mut c2h = card.c2h(1).unwrap();
    let source = card.allocate(1 << 20, Direction::H2C).unwrap();
    let sink = card.allocate(1 << 20, Direction::C2H).unwrap();
    // Scalars without points: the design accepts a part of them, and then the engine waits.
    let ticket = h2c.submit(&source, 0..1 << 20, SCALAR_WINDOW).unwrap();
    h2c.wait(ticket, Duration::from_millis(20)).unwrap_err();
    println!("host: kill the card");
    // Polling reads only memory. A register access at this time would end QEMU, too.
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_secs(2) {
        assert_eq!(h2c.poll(ticket).unwrap(), Poll::Pending);
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = h2c.wait(ticket, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
    let error = c2h.transfer(&sink, 0..64, 0, LIMIT).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
    assert!(matches!(card.report(), Err(CardError::Gone { .. })));
    // For the driver, a card that does not respond may still be running.
    let closed = h2c.close();
    assert!(matches!(closed, Err(CloseError::Quarantined { .. })), "{closed:?}");
    sink.read(0, &mut [0; 64]).expect("the memory is still accessible");
    println!("vm: passed");
}
