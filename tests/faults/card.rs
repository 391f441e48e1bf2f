//! The whole card: resets, the link, its process.

use crate::rig::{LEN, LIMIT, Rig, SHORT, at_once, is_deadline, is_gone, is_hung, open};
use xdma::card::CardError;
use xdma::channel::{EngineError, Ring, WaitError};
use xdma::regs::Direction;
use xdma_emulator::faults::{FaultDuration, Kind};

pub fn a_reset_that_does_nothing(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::H2C, 0));
    rig.inject(Kind::ResetIneffective);
    let ticket = rig.h2c[0].submit().unwrap();
    is_deadline(rig.h2c[0].channel.wait(ticket, SHORT));
    match rig.card.recover() {
        Err(CardError::Hung { tried, .. }) => assert!(tried.contains("not even after")),
        other => panic!("{other:?}"),
    }
    is_hung(rig.h2c[0].channel.recover());
    rig.card.recover().unwrap();
    rig.recover_all();
    rig.end();
}

pub fn a_reset_that_clears_memory(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.works();
    // A reset as it should be keeps it.
    let data = rig.fill(0);
    rig.h2c[0].transfer(LIMIT).unwrap();
    for (fault, expected) in [(None, data), (Some(Kind::ResetClears), vec![0; LEN as usize])] {
        fault.into_iter().for_each(|fault| rig.inject(fault));
        rig.card.reset().unwrap();
        rig.c2h[0].channel.recover().unwrap();
        rig.c2h[0].transfer(LIMIT).unwrap();
        assert!(rig.c2h[0].read() == expected, "{fault:?}");
    }
    for lane in rig.h2c.iter_mut().chain(&mut rig.c2h) {
        lane.channel.recover().unwrap();
    }
    rig.works();
    rig.end();
}

pub fn a_link_that_goes_down(ring: Ring) {
    let mut rig = Rig::with(ring, false);
    rig.works();
    rig.inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::C2H, 0));
    let ticket = rig.c2h[0].submit().unwrap();
    is_deadline(rig.c2h[0].channel.wait(ticket, SHORT));
    rig.inject(Kind::LinkDown);
    at_once(|| {
        is_gone(rig.c2h[0].channel.wait(ticket, LIMIT));
        is_gone(rig.h2c[0].transfer(LIMIT));
        is_gone(rig.h2c[0].channel.recover());
        assert!(matches!(rig.card.recover(), Err(CardError::Gone { .. })));
    });
    // Closing takes no time, and frees what the card can no longer reach.
    at_once(|| rig.end());
}

/// A card that was kept open all the time, without a reset of the function.
pub fn a_link_that_comes_back(ring: Ring) {
    let mut rig = Rig::with(ring, false);
    rig.works();
    rig.inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::C2H, 0));
    let ticket = rig.c2h[0].submit().unwrap();
    is_deadline(rig.c2h[0].channel.wait(ticket, SHORT));
    rig.inject(Kind::LinkDown);
    assert!(matches!(rig.card.recover(), Err(CardError::Gone { .. })));
    rig.inject(Kind::LinkUp);
    rig.card.recover().unwrap();
    let told = rig.c2h[0].channel.wait(ticket, LIMIT);
    let reset = matches!(&told, Err(WaitError::Engine(EngineError::Reset { ring })) if ring.in_flight == 1);
    assert!(reset, "{told:?}");
    rig.recover_all();
    rig.end();
}

pub fn a_process_that_is_gone(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.works();
    rig.inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::C2H, 0));
    let ticket = rig.c2h[0].submit().unwrap();
    is_deadline(rig.c2h[0].channel.wait(ticket, SHORT));
    rig.inject(Kind::ProcessGone);
    at_once(|| {
        let ended = rig.c2h[0].channel.wait(ticket, LIMIT);
        let failed = matches!(&ended, Err(WaitError::Engine(EngineError::Bus { ring: Some(_), .. })));
        assert!(failed, "{ended:?}");
        let error = rig.h2c[0].transfer(LIMIT).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Bus { .. })), "{error}");
        assert!(rig.card.recover().is_err());
    });
    assert!(open(&rig.emulated).is_err(), "nobody listens");
    at_once(|| rig.end());
}
