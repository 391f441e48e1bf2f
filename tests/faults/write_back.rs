//! Lost, late, repeated and early write-backs of the completed count.

use crate::rig::{LIMIT, Rig};
use std::time::Duration;
use xdma::channel::{Poll, Ring};
use xdma::regs::Direction;
use xdma_emulator::faults::{FaultDuration, Kind};

const A_WHILE: Duration = Duration::from_millis(30);

pub fn a_lost_write_back(ring: Ring) {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut rig = Rig::new(ring);
        rig.works();
        rig.inject(Kind::WriteBackDropped.on(direction, 0));
        let channel = rig.channel(direction);
        let ticket = channel.submit().unwrap();
        std::thread::sleep(A_WHILE);
        assert_eq!(channel.channel.poll(ticket).unwrap(), Poll::Pending, "`poll` reads only memory");
        channel.channel.wait(ticket, LIMIT).unwrap();
        rig.works();
        // Several lost write-backs, with more transfers queued behind them.
        rig.inject(Kind::WriteBackDropped.on(direction, 0).times(10));
        let channel = rig.channel(direction);
        let tickets: Vec<_> = (0..10).map(|_| channel.submit().unwrap()).collect();
        for ticket in tickets {
            channel.channel.wait(ticket, LIMIT).unwrap();
        }
        rig.works();
        // A transfer that had finished before the channel was stopped is reported as finished.
        rig.inject(Kind::WriteBackDropped.on(direction, 0));
        let channel = rig.channel(direction);
        let ticket = channel.submit().unwrap();
        std::thread::sleep(A_WHILE);
        channel.channel.recover().unwrap();
        assert_eq!(channel.channel.poll(ticket).unwrap(), Poll::Ready);
        rig.works();
        assert_eq!(rig.injected("WriteBackDropped"), 12);
        rig.end();
    }
}

/// The driver finds the count in its register. The late write-back is not mistaken for a new one.
pub fn a_late_write_back(ring: Ring) {
    let mut rig = Rig::new(ring);
    for direction in [Direction::H2C, Direction::C2H] {
        rig.inject(Kind::WriteBackDelayed(5).on(direction, 0).times(10));
        (0..6).for_each(|_| rig.pair_works(0));
    }
    rig.others_work();
    assert_eq!(
        rig.injected("WriteBackDelayed"),
        16,
        "6 of H2C; then 6 of C2H, and the 4 that were left of H2C"
    );
    rig.end();
}

pub fn a_repeated_write_back(ring: Ring) {
    let mut rig = Rig::new(ring);
    for direction in [Direction::H2C, Direction::C2H] {
        rig.inject(Kind::WriteBackRepeated.on(direction, 0).times(50));
        (0..40).for_each(|_| rig.pair_works(0));
    }
    rig.others_work();
    assert!(rig.injected("WriteBackRepeated") >= 80);
    rig.end();
}

/// The write-back arrives while the data is still delayed. `settle` reads the registers, which are correct.
pub fn an_early_write_back(ring: Ring) {
    let mut rig = Rig::new(ring);
    let data = rig.fill(0);
    rig.h2c[0].transfer(LIMIT).unwrap();
    rig.inject(Kind::WriteBackEarly.on(Direction::C2H, 0));
    rig.inject(Kind::AxiHang(FaultDuration::Millis(200)).on(Direction::C2H, 0));
    let ticket = rig.c2h[0].submit().unwrap();
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    rig.c2h[0].channel.settle(LIMIT).unwrap();
    assert!(rig.c2h[0].read() == data, "the data is complete after `settle`");
    assert_eq!(rig.injected("WriteBackEarly"), 1);
    rig.works();
    rig.end();
}
