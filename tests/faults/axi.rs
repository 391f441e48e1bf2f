//! Faults of the AXI side: errors, hangs and lost bursts.

use crate::rig::{LIMIT, Rig, SHORT, failed, immediately, is_deadline, is_hung};
use xdma::card::CardError;
use xdma::channel::{CloseError, EngineError, Ring, WaitError};
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma_emulator::faults::{FaultDuration, Kind};

fn fails(ring: Ring, fault: Kind, bits: [Status; 2]) {
    let mut rig = Rig::new(ring);
    for (direction, bit) in [Direction::H2C, Direction::C2H].into_iter().zip(bits) {
        // The fault affects the second burst of the transfer.
        rig.inject(fault.on(direction, 0).after(1));
        let snapshot = failed(rig.channel(direction));
        assert!(snapshot.status.contains(bit), "{snapshot}");
        rig.others_work();
        rig.channel(direction).channel.recover().unwrap();
        rig.works();
    }
    rig.end();
}

pub fn an_axi_slave_error(ring: Ring) {
    fails(ring, Kind::AxiSlaveError, [Status::WRITE_SLAVE_ERROR, Status::READ_ERROR_1]);
}

pub fn an_axi_decode_error(ring: Ring) {
    fails(ring, Kind::AxiDecodeError, [Status::WRITE_DECODE_ERROR, Status::READ_ERROR_0]);
}

pub fn an_axi_hang(ring: Ring) {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut rig = Rig::new(ring);
        rig.inject(Kind::AxiHang(FaultDuration::Millis(20)).on(direction, 0));
        rig.channel(direction).transfer(LIMIT).unwrap();
        rig.works();
        // A permanent hang ends only by a reset of the function, which all channels report.
        rig.inject(Kind::AxiHang(FaultDuration::Forever).on(direction, 0));
        let channel = rig.channel(direction);
        let ticket = channel.submit().unwrap();
        is_deadline(channel.channel.wait(ticket, SHORT));
        is_hung(channel.channel.recover());
        rig.others_work();
        rig.card.recover().unwrap();
        let waited = rig.channel(direction).channel.wait(ticket, LIMIT);
        assert!(matches!(waited, Err(WaitError::Engine(EngineError::Reset { .. }))), "{waited:?}");
        rig.recover_all();
        rig.end();
        hangs_without_a_reset(ring, direction);
    }
}

/// Without a reset, there is no recovery. The memory is quarantined, the other channels still work, and closing does not wait
/// again.
fn hangs_without_a_reset(ring: Ring, direction: Direction) {
    let mut rig = Rig::with(ring, false);
    rig.inject(Kind::AxiHang(FaultDuration::Forever).on(direction, 0));
    let channel = rig.channel(direction);
    let ticket = channel.submit().unwrap();
    is_deadline(channel.channel.wait(ticket, SHORT));
    is_hung(channel.channel.stop());
    rig.others_work();
    let channel = if direction == Direction::H2C { rig.h2c.remove(0) } else { rig.c2h.remove(0) };
    let closed = immediately(|| channel.channel.close());
    assert!(
        matches!(&closed, Err(CloseError::Quarantined { cause, .. }) if matches!(cause, EngineError::Hung { .. })),
        "{closed:?}"
    );
    drop(channel.buffer);
    match rig.card.recover() {
        Err(CardError::Hung { .. }) => {}
        other => panic!("{other:?}"),
    }
    immediately(|| rig.end());
}

pub fn a_lost_axi_write(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.works();
    let data = rig.fill(0);
    rig.inject(Kind::AxiWriteLost.on(Direction::H2C, 0).after(1));
    rig.h2c[0].transfer(LIMIT).unwrap();
    rig.c2h[0].transfer(LIMIT).unwrap();
    assert!(rig.c2h[0].read() != data, "a burst must be missing; no register reports it");
    rig.works();
    rig.end();
}
