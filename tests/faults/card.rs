//! Faults of the whole card: its reset, its link and its process.

use crate::rig::{LEN, LIMIT, Rig, SHORT, immediately, is_deadline, is_gone, is_hung, open};
use xdma::card::CardError;
use xdma::channel::{EngineError, Ring, WaitError};
use xdma::regs::Direction;
use xdma_emulator::faults::{FaultDuration, Kind};

pub fn an_ineffective_reset(ring: Ring) {
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
    // A regular reset keeps the content of memory.
    let data = rig.fill(0);
    rig.h2c[0].transfer(LIMIT).unwrap();
    for (fault, expected) in [(None, data), (Some(Kind::ResetClears), vec![0; LEN as usize])] {
        fault.into_iter().for_each(|fault| rig.inject(fault));
        rig.card.reset().unwrap();
        rig.c2h[0].channel.recover().unwrap();
        rig.c2h[0].transfer(LIMIT).unwrap();
        assert!(rig.c2h[0].read() == expected, "{fault:?}");
    }
    for channel in rig.h2c.iter_mut().chain(&mut rig.c2h) {
        channel.channel.recover().unwrap();
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
    immediately(|| {
        is_gone(rig.c2h[0].channel.wait(ticket, LIMIT));
        is_gone(rig.h2c[0].transfer(LIMIT));
        is_gone(rig.h2c[0].channel.recover());
        assert!(matches!(rig.card.recover(), Err(CardError::Gone { .. })));
    });
    // Closing is immediate, and frees memory that the card can no longer reach.
    immediately(|| rig.end());
}

/// The link goes down and comes up again while the card stays open; the function has no reset.
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
    let waited = rig.c2h[0].channel.wait(ticket, LIMIT);
    let reset = matches!(&waited, Err(WaitError::Engine(EngineError::Reset { ring })) if ring.in_flight == 1);
    assert!(reset, "{waited:?}");
    rig.recover_all();
    rig.end();
}

pub fn a_process_that_has_ended(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.works();
    rig.inject(Kind::AxiHang(FaultDuration::Forever).on(Direction::C2H, 0));
    let ticket = rig.c2h[0].submit().unwrap();
    is_deadline(rig.c2h[0].channel.wait(ticket, SHORT));
    rig.inject(Kind::ProcessGone);
    immediately(|| {
        let ended = rig.c2h[0].channel.wait(ticket, LIMIT);
        let failed = matches!(&ended, Err(WaitError::Engine(EngineError::Bus { ring: Some(_), .. })));
        assert!(failed, "{ended:?}");
        let error = rig.h2c[0].transfer(LIMIT).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Bus { .. })), "{error}");
        assert!(rig.card.recover().is_err());
    });
    assert!(open(&rig.emulated).is_err(), "the socket is closed");
    immediately(|| rig.end());
}
