//! Completed counts that are not what and when they should be.

use crate::rig::{LIMIT, Rig};
use std::time::Duration;
use xdma::channel::{Poll, Ring};
use xdma::regs::Direction;
use xdma_emulator::faults::{FaultDuration, Kind};

const A_WHILE: Duration = Duration::from_millis(30);

pub fn one_that_is_lost(ring: Ring) {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut rig = Rig::new(ring);
        rig.works();
        rig.inject(Kind::WriteBackDropped.on(direction, 0));
        let lane = rig.lane(direction);
        let ticket = lane.submit().unwrap();
        std::thread::sleep(A_WHILE);
        assert_eq!(lane.channel.poll(ticket).unwrap(), Poll::Pending, "memory does not tell");
        lane.channel.wait(ticket, LIMIT).unwrap();
        rig.works();
        // Each of many, with others behind them.
        rig.inject(Kind::WriteBackDropped.on(direction, 0).times(10));
        let lane = rig.lane(direction);
        let tickets: Vec<_> = (0..10).map(|_| lane.submit().unwrap()).collect();
        for ticket in tickets {
            lane.channel.wait(ticket, LIMIT).unwrap();
        }
        rig.works();
        // What was finished when the channel is stopped is done.
        rig.inject(Kind::WriteBackDropped.on(direction, 0));
        let lane = rig.lane(direction);
        let ticket = lane.submit().unwrap();
        std::thread::sleep(A_WHILE);
        lane.channel.recover().unwrap();
        assert_eq!(lane.channel.poll(ticket).unwrap(), Poll::Ready);
        rig.works();
        assert_eq!(rig.injected("WriteBackDropped"), 12);
        rig.end();
    }
}

/// Found in the register before it comes; when it comes, it is taken for what it is.
pub fn one_that_is_late(ring: Ring) {
    let mut rig = Rig::new(ring);
    for direction in [Direction::H2C, Direction::C2H] {
        rig.inject(Kind::WriteBackDelayed(5).on(direction, 0).times(10));
        (0..6).for_each(|_| rig.pair_works(0));
    }
    rig.others_work();
    assert_eq!(rig.injected("WriteBackDelayed"), 16, "6 of H2C, 6 of C2H with the 4 that were left of H2C");
    rig.end();
}

pub fn one_that_comes_again(ring: Ring) {
    let mut rig = Rig::new(ring);
    for direction in [Direction::H2C, Direction::C2H] {
        rig.inject(Kind::WriteBackRepeated.on(direction, 0).times(50));
        (0..40).for_each(|_| rig.pair_works(0));
    }
    rig.others_work();
    assert!(rig.injected("WriteBackRepeated") >= 80);
    rig.end();
}

/// The word says that it is done while the data is still held up; the registers know better.
pub fn one_that_is_early(ring: Ring) {
    let mut rig = Rig::new(ring);
    let data = rig.fill(0);
    rig.h2c[0].transfer(LIMIT).unwrap();
    rig.inject(Kind::WriteBackEarly.on(Direction::C2H, 0));
    rig.inject(Kind::AxiHang(FaultDuration::Millis(200)).on(Direction::C2H, 0));
    let ticket = rig.c2h[0].submit().unwrap();
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    rig.c2h[0].channel.settle(LIMIT).unwrap();
    assert!(rig.c2h[0].read() == data, "it has settled");
    assert_eq!(rig.injected("WriteBackEarly"), 1);
    rig.works();
    rig.end();
}
