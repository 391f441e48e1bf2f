//! Lifetimes of memory and cards: scopes, registered memory, and cards that are closed while they are busy.

use std::error::Error;
use std::time::Duration;
use xdma::card::{CardError, CardOptions};
use xdma::channel::{EngineError, ScopeError, SubmitError, WaitError};
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::faults::{BadCompletion, FaultDuration, Kind};
use xdma_emulator::logic::{Design, MsmModelOptions as Model};
use xdma_testkit::bench::{Bench, LIMIT, pattern};

#[test]
fn registered_vectors_are_transferred_and_returned() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let data: Vec<u64> = (0..100_000).collect();
    let source = card.register(data.clone(), Direction::H2C).unwrap();
    let sink = card.register(vec![0u64; 100_000], Direction::C2H).unwrap();
    h2c.transfer(&source, 0..800_000, 0x100, LIMIT).unwrap();
    c2h.transfer(&sink, 0..800_000, 0x100, LIMIT).unwrap();
    assert_eq!(source.into_inner().unwrap(), data);
    assert_eq!(sink.into_inner().unwrap(), data);
}

#[test]
fn slices_are_borrowed_for_the_duration_of_a_scope() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let (data, mut seen) = (pattern(70_000, 5), vec![0u8; 70_000]);
    h2c.scope(LIMIT, |s| {
        let borrowed = s.borrow(&data).unwrap();
        // The scope waits for the transfer.
        Ok::<_, Box<dyn Error>>(s.submit(&*borrowed, 0..70_000, 0)?)
    })
    .unwrap();
    assert_eq!(h2c.in_flight(), 0);
    c2h.scope(LIMIT, |s| {
        let borrowed = s.borrow_mut(&mut seen).unwrap();
        Ok::<_, Box<dyn Error>>(s.submit(&*borrowed, 0..70_000, 0)?)
    })
    .unwrap();
    assert!(seen == data);
}

#[test]
fn a_scope_reports_failed_transfers_that_its_body_did_not_wait_for() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let data = pattern(70_000, 5);
    let fault = Kind::Fetch(BadCompletion::Poisoned).on(Direction::H2C, 0);
    // The transfer fails while the scope waits, or the failure was seen before.
    for seen in [false, true] {
        bench.inject(fault);
        let ended = h2c.scope(LIMIT, |s| -> Result<(), Box<dyn Error>> {
            let borrowed = s.borrow(&data)?;
            s.submit(&*borrowed, 0..70_000, 0)?;
            if seen {
                let _ = s.settle(LIMIT);
            }
            Ok(())
        });
        let error = ended.unwrap_err();
        let Some(ScopeError::Wait(failed)) = error.downcast_ref() else { panic!("{error:?}") };
        assert!(matches!(failed.engine(), Some(EngineError::Failed { .. })), "{failed}");
        h2c.recover().unwrap();
    }
    // An error of the body takes precedence.
    bench.inject(fault);
    let ended = h2c.scope(LIMIT, |s| -> Result<(), Box<dyn Error>> {
        let borrowed = s.borrow(&data)?;
        s.submit(&*borrowed, 0..70_000, 0)?;
        Err(SubmitError::Empty.into())
    });
    let error = ended.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(SubmitError::Empty)), "{error:?}");
    h2c.recover().unwrap();
    // A failure from which the body has recovered is not reported.
    bench.inject(fault);
    h2c.scope(LIMIT, |s| -> Result<(), Box<dyn Error>> {
        let borrowed = s.borrow(&data)?;
        let ticket = s.submit(&*borrowed, 0..70_000, 0)?;
        s.wait(ticket, LIMIT).unwrap_err();
        s.recover()?;
        s.submit(&*borrowed, 0..70_000, 0)?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_scope_reports_a_transfer_that_exceeds_its_limit() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let data = pattern(70_000, 5);
    bench.inject(Kind::AxiHang(FaultDuration::Millis(300)).on(Direction::H2C, 0));
    let ended = h2c.scope(Duration::from_millis(20), |s| -> Result<(), Box<dyn Error>> {
        let borrowed = s.borrow(&data)?;
        s.submit(&*borrowed, 0..70_000, 0)?;
        Ok(())
    });
    let error = ended.unwrap_err();
    let timed_out = matches!(error.downcast_ref(), Some(ScopeError::Wait(WaitError::Deadline { .. })));
    assert!(timed_out, "{error:?}");
    assert_eq!(h2c.in_flight(), 0, "the channel was stopped");
}

#[test]
fn a_scope_waits_for_its_transfers_after_a_panic() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let mut h2c = card.h2c(0).unwrap();
    let data = pattern(1 << 20, 6);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        h2c.scope(LIMIT, |s| -> Result<(), Box<dyn Error>> {
            let borrowed = s.borrow(&data).unwrap();
            s.submit(&*borrowed, 0..1 << 20, 0).unwrap();
            panic!("in the middle of a transfer");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(h2c.in_flight(), 0);
    h2c.transfer(&card.allocate(64, Direction::H2C).unwrap(), 0..64, 0, LIMIT).unwrap();
}

#[test]
fn a_buffer_dropped_in_flight_is_released_only_after_its_transfer() {
    let bench = Bench::memory(EmulatorOptions::default());
    let card = bench.open();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let data = pattern(4 << 20, 7);
    let mut source = card.allocate(4 << 20, Direction::H2C).unwrap();
    source.write(0, &data).unwrap();
    let ticket = h2c.submit(&source, 0..4 << 20, 0).unwrap();
    drop(source);
    h2c.wait(ticket, LIMIT).unwrap();
    let sink = card.allocate(4 << 20, Direction::C2H).unwrap();
    c2h.transfer(&sink, 0..4 << 20, 0, LIMIT).unwrap();
    let mut seen = vec![0u8; 4 << 20];
    sink.read(0, &mut seen).unwrap();
    assert!(seen == data);
    assert!(bench.log().dma_faults.is_empty(), "no access of the card was refused");
}

#[test]
fn a_card_closed_while_busy_can_be_opened_again() {
    let bench =
        Bench::new(EmulatorOptions::default(), Design::Msm(Model { watchdog: 0, ..Model::default() }));
    {
        let card = bench.open_with_short_idle_limit();
        let mut h2c = card.h2c(0).unwrap();
        let source = card.allocate(1 << 20, Direction::H2C).unwrap();
        // The FIFO accepts a part of the data, and the engine waits forever.
        let ticket = h2c.submit(&source, 0..1 << 20, xdma::regs::msm::SCALAR_WINDOW).unwrap();
        h2c.wait(ticket, std::time::Duration::from_millis(100)).unwrap_err();
        let error = h2c.close().unwrap_err();
        assert!(error.to_string().contains("does not become idle; reset the card"), "{error}");
        assert!(card.quarantined_bytes() >= 1 << 20);
    }
    // The memory is out of the engine's reach or stays allocated. The card can be opened, but the engine may still hang.
    let options = CardOptions { idle_limit: Duration::from_millis(100), ..CardOptions::default() };
    match bench.try_open(options) {
        Ok(_) | Err(CardError::Hung { .. }) => {}
        other => panic!("{other:?}"),
    }
}
