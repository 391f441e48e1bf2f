//! What lies behind the engine: errors, silence, lost bursts.

use crate::rig::{LIMIT, Rig, SHORT, at_once, failed, is_deadline, is_hung};
use xdma::card::CardError;
use xdma::channel::{CloseError, EngineError, Ring, WaitError};
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma_emulator::faults::{FaultDuration, Kind};

fn fails(ring: Ring, fault: Kind, bits: [Status; 2]) {
    let mut rig = Rig::new(ring);
    for (direction, bit) in [Direction::H2C, Direction::C2H].into_iter().zip(bits) {
        // The second burst of the transfer.
        rig.inject(fault.on(direction, 0).after(1));
        let snapshot = failed(rig.lane(direction));
        assert!(snapshot.status.contains(bit), "{snapshot}");
        rig.others_work();
        rig.lane(direction).channel.recover().unwrap();
        rig.works();
    }
    rig.end();
}

pub fn a_slave_that_refuses(ring: Ring) {
    fails(ring, Kind::AxiSlaveError, [Status::WRITE_SLAVE_ERROR, Status::READ_ERROR_1]);
}

pub fn an_address_that_nobody_has(ring: Ring) {
    fails(ring, Kind::AxiDecodeError, [Status::WRITE_DECODE_ERROR, Status::READ_ERROR_0]);
}

pub fn a_slave_that_hangs(ring: Ring) {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut rig = Rig::new(ring);
        rig.inject(Kind::AxiHang(FaultDuration::Millis(20)).on(direction, 0));
        rig.lane(direction).transfer(LIMIT).unwrap();
        rig.works();
        // For ever, until the function is reset: all channels are told.
        rig.inject(Kind::AxiHang(FaultDuration::Forever).on(direction, 0));
        let lane = rig.lane(direction);
        let ticket = lane.submit().unwrap();
        is_deadline(lane.channel.wait(ticket, SHORT));
        is_hung(lane.channel.recover());
        rig.others_work();
        rig.card.recover().unwrap();
        let told = rig.lane(direction).channel.wait(ticket, LIMIT);
        assert!(matches!(told, Err(WaitError::Engine(EngineError::Reset { .. }))), "{told:?}");
        rig.recover_all();
        rig.end();
        hangs_without_a_reset(ring, direction);
    }
}

/// Nothing helps: the memory is the card's for good, the other channels go on, and nobody waits twice.
fn hangs_without_a_reset(ring: Ring, direction: Direction) {
    let mut rig = Rig::with(ring, false);
    rig.inject(Kind::AxiHang(FaultDuration::Forever).on(direction, 0));
    let lane = rig.lane(direction);
    let ticket = lane.submit().unwrap();
    is_deadline(lane.channel.wait(ticket, SHORT));
    is_hung(lane.channel.stop());
    rig.others_work();
    let lane = if direction == Direction::H2C { rig.h2c.remove(0) } else { rig.c2h.remove(0) };
    let closed = at_once(|| lane.channel.close());
    assert!(
        matches!(&closed, Err(CloseError::Quarantined { cause, .. }) if matches!(cause, EngineError::Hung { .. })),
        "{closed:?}"
    );
    drop(lane.buffer);
    match rig.card.recover() {
        Err(CardError::Hung { .. }) => {}
        other => panic!("{other:?}"),
    }
    at_once(|| rig.end());
}

pub fn a_burst_that_is_lost(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.works();
    let data = rig.fill(0);
    rig.inject(Kind::AxiWriteLost.on(Direction::H2C, 0).after(1));
    rig.h2c[0].transfer(LIMIT).unwrap();
    rig.c2h[0].transfer(LIMIT).unwrap();
    assert!(rig.c2h[0].read() != data, "a burst is missing, and no register says so");
    rig.works();
    rig.end();
}
