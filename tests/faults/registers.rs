//! Registers that lie.

use crate::rig::{LIMIT, Rig, SHORT, at_once, is_deadline, is_gone, is_hung, open};
use std::time::Duration;
use xdma::card::CardError;
use xdma::channel::{EngineError, Poll, PollError, Ring, TransferError};
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma_emulator::faults::{FaultDuration, Injection, Kind};

pub fn busy_that_stays(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.inject(Kind::BusyStuck(FaultDuration::Millis(20)).on(Direction::H2C, 0));
    rig.works();
    rig.inject(Kind::BusyStuck(FaultDuration::Forever).on(Direction::C2H, 0));
    let lane = rig.lane(Direction::C2H);
    // It is read: from now on it stays.
    lane.channel.check().unwrap();
    let outcome = lane.transfer(SHORT);
    match ring {
        Ring::Chain => is_deadline(outcome),
        Ring::Credits => outcome.unwrap(),
    }
    is_hung(lane.channel.stop());
    is_hung(lane.channel.recover());
    rig.others_work();
    rig.card.recover().unwrap();
    rig.recover_all();
    rig.end();
}

pub fn status_bits_that_stay(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.inject(Kind::StatusStuck(Status::MAGIC_STOPPED.bits()).on(Direction::H2C, 0));
    let channel = &mut rig.h2c[0].channel;
    for result in [channel.check(), channel.recover()] {
        assert!(matches!(result, Err(EngineError::Failed { .. })), "{result:?}");
    }
    let error = rig.h2c[0].submit().unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    rig.others_work();
    rig.card.reset().unwrap();
    for lane in rig.h2c.iter_mut().chain(&mut rig.c2h) {
        lane.channel.recover().unwrap();
    }
    rig.works();
    rig.end();
}

/// Further than what is outstanding: no transfer ends by it, neither this nor those behind it.
pub fn a_count_that_jumps(ring: Ring) {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut rig = Rig::new(ring);
        rig.works();
        rig.inject(Kind::CountJump(1 << 20).on(direction, 0));
        let lane = rig.lane(direction);
        let (first, second) = (lane.submit().unwrap(), lane.submit().unwrap());
        is_deadline(lane.channel.wait(first, SHORT));
        assert_eq!(lane.channel.poll(second).unwrap(), Poll::Pending);
        lane.channel.recover().unwrap();
        for ticket in [first, second] {
            let told = lane.channel.poll(ticket);
            assert!(matches!(told, Err(PollError::Engine(EngineError::Stopped))), "{told:?}");
        }
        rig.works();
        jump_ahead(&mut rig, direction, ring);
        rig.end();
    }
}

/// By no more than what is outstanding: with credits no word can show it, and the registers do when everything should have settled.
fn jump_ahead(rig: &mut Rig, direction: Direction, ring: Ring) {
    rig.inject(Kind::CountJump(1).on(direction, 0));
    let lane = rig.lane(direction);
    let (first, second) = (lane.submit().unwrap(), lane.submit().unwrap());
    match (ring, lane.channel.wait(second, SHORT)) {
        // Too early, or if both were finished by the first look, the count is beyond what was outstanding.
        (Ring::Credits, Ok(())) => {}
        (_, told) => is_deadline(told),
    }
    // While the second is under way the jump makes the count right: on a crowded machine that may last.
    std::thread::sleep(SHORT);
    is_deadline(lane.channel.settle(SHORT));
    assert!(ring == Ring::Credits || matches!(lane.channel.poll(first), Ok(Poll::Pending)));
    lane.channel.recover().unwrap();
    rig.works();
}

pub fn registers_that_read_all_ones(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.inject(Kind::AllOnes(FaultDuration::Millis(50)));
    is_gone(rig.h2c[0].channel.check());
    std::thread::sleep(Duration::from_millis(60));
    for lane in rig.h2c.iter_mut().chain(&mut rig.c2h) {
        lane.channel.recover().unwrap();
    }
    rig.works();
    rig.inject(Injection::from(Kind::AllOnes(FaultDuration::Forever)));
    let submitted = rig.c2h[0].submit().map_err(TransferError::from);
    is_gone(submitted.and_then(|_| Ok(rig.c2h[0].channel.settle(LIMIT)?)));
    is_gone(rig.h2c[0].channel.stop());
    assert!(matches!(rig.card.recover(), Err(CardError::Gone { .. })));
    let Rig { h2c, c2h, card, emulated, .. } = rig;
    at_once(|| drop((h2c, c2h, card)));
    assert!(open(&emulated).is_err(), "nobody recognises it");
    assert!(emulated.violations().is_empty(), "{:?}", emulated.violations());
}
