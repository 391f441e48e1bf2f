//! Faults of descriptor fetches and host memory accesses.

use crate::rig::{LIMIT, Rig, failed};
use xdma::channel::Ring;
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma_emulator::faults::{BadCompletion, Kind};

const BOTH: [Direction; 2] = [Direction::H2C, Direction::C2H];
const COMPLETIONS: [(BadCompletion, u32); 5] = [
    (BadCompletion::UnsupportedRequest, 0),
    (BadCompletion::CompleterAbort, 1),
    (BadCompletion::Parity, 2),
    (BadCompletion::Poisoned, 3),
    (BadCompletion::Unexpected, 4),
];

/// Injects a fault into a transfer. The channel must fail with these status bits, and work after a recovery.
#[track_caller]
fn fails(rig: &mut Rig, fault: Kind, direction: Direction, bits: u32) {
    rig.inject(fault.on(direction, 0));
    let snapshot = failed(rig.channel(direction));
    assert_eq!(snapshot.status.bits() & bits, bits, "{snapshot}");
    rig.others_work();
    rig.channel(direction).channel.recover().unwrap();
    rig.works();
}

pub fn a_descriptor_without_magic(ring: Ring) {
    let mut rig = Rig::new(ring);
    for direction in BOTH {
        fails(&mut rig, Kind::BadMagic, direction, Status::MAGIC_STOPPED.bits());
    }
    assert_eq!(rig.injected("BadMagic"), 2);
    rig.end();
}

pub fn a_failed_descriptor_fetch(ring: Ring) {
    let mut rig = Rig::new(ring);
    for direction in BOTH {
        for (with, bit) in COMPLETIONS {
            fails(&mut rig, Kind::Fetch(with), direction, 1 << (19 + bit));
        }
    }
    rig.end();
}

pub fn a_failed_host_read(ring: Ring) {
    let mut rig = Rig::new(ring);
    for (with, bit) in COMPLETIONS {
        fails(&mut rig, Kind::HostRead(with), Direction::H2C, 1 << (9 + bit));
    }
    rig.end();
}

/// Posted writes are not acknowledged. The engine counts the bytes, so only the data shows the fault.
pub fn a_dropped_host_write(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.works();
    let data = rig.fill(0);
    rig.h2c[0].transfer(LIMIT).unwrap();
    rig.inject(Kind::HostWriteDropped.on(Direction::C2H, 0));
    rig.c2h[0].transfer(LIMIT).unwrap();
    rig.c2h[0].channel.settle(LIMIT).unwrap();
    assert!(rig.c2h[0].read() != data, "bytes must be missing; no register reports it");
    rig.c2h[0].transfer(LIMIT).unwrap();
    assert!(rig.c2h[0].read() == data);
    rig.works();
    rig.end();
}
