//! Descriptors and payload.

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

/// The fault strikes a transfer of a direction, whose status has these bits then; all is well after.
#[track_caller]
fn fails(rig: &mut Rig, fault: Kind, direction: Direction, bits: u32) {
    rig.inject(fault.on(direction, 0));
    let snapshot = failed(rig.lane(direction));
    assert_eq!(snapshot.status.bits() & bits, bits, "{snapshot}");
    rig.others_work();
    rig.lane(direction).channel.recover().unwrap();
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

pub fn a_fetch_that_ends_badly(ring: Ring) {
    let mut rig = Rig::new(ring);
    for direction in BOTH {
        for (with, bit) in COMPLETIONS {
            fails(&mut rig, Kind::Fetch(with), direction, 1 << (19 + bit));
        }
    }
    rig.end();
}

pub fn a_read_of_the_host_that_ends_badly(ring: Ring) {
    let mut rig = Rig::new(ring);
    for (with, bit) in COMPLETIONS {
        fails(&mut rig, Kind::HostRead(with), Direction::H2C, 1 << (9 + bit));
    }
    rig.end();
}

/// Silent by nature: the engine counts the bytes, so only the data tells.
pub fn a_write_to_the_host_that_vanishes(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.works();
    let data = rig.fill(0);
    rig.h2c[0].transfer(LIMIT).unwrap();
    rig.inject(Kind::HostWriteDropped.on(Direction::C2H, 0));
    rig.c2h[0].transfer(LIMIT).unwrap();
    rig.c2h[0].channel.settle(LIMIT).unwrap();
    assert!(rig.c2h[0].read() != data, "bytes are missing, and no register says so");
    rig.c2h[0].transfer(LIMIT).unwrap();
    assert!(rig.c2h[0].read() == data);
    rig.works();
    rig.end();
}
