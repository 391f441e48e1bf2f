//! Registers with wrong values.

use crate::rig::{LIMIT, Rig, SHORT, immediately, is_deadline, is_gone, is_hung, open};
use std::time::Duration;
use xdma::card::CardError;
use xdma::channel::{EngineError, Poll, PollError, Ring, TransferError};
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma_emulator::faults::{FaultDuration, Injection, Kind};

pub fn a_stuck_busy_bit(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.inject(Kind::BusyStuck(FaultDuration::Millis(20)).on(Direction::H2C, 0));
    rig.works();
    rig.inject(Kind::BusyStuck(FaultDuration::Forever).on(Direction::C2H, 0));
    let channel = rig.channel(Direction::C2H);
    // The bit is stuck once it was read.
    channel.channel.check().unwrap();
    let outcome = channel.transfer(SHORT);
    match ring {
        Ring::Chain => is_deadline(outcome),
        Ring::Credits => outcome.unwrap(),
    }
    is_hung(channel.channel.stop());
    is_hung(channel.channel.recover());
    rig.others_work();
    rig.card.recover().unwrap();
    rig.recover_all();
    rig.end();
}

pub fn stuck_status_bits(ring: Ring) {
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
    for channel in rig.h2c.iter_mut().chain(&mut rig.c2h) {
        channel.channel.recover().unwrap();
    }
    rig.works();
    rig.end();
}

/// The count jumps beyond the outstanding descriptors. No transfer is reported as finished.
pub fn a_jumping_count(ring: Ring) {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut rig = Rig::new(ring);
        rig.works();
        rig.inject(Kind::CountJump(1 << 20).on(direction, 0));
        let channel = rig.channel(direction);
        let (first, second) = (channel.submit().unwrap(), channel.submit().unwrap());
        is_deadline(channel.channel.wait(first, SHORT));
        assert_eq!(channel.channel.poll(second).unwrap(), Poll::Pending);
        channel.channel.recover().unwrap();
        for ticket in [first, second] {
            let polled = channel.channel.poll(ticket);
            assert!(matches!(polled, Err(PollError::Engine(EngineError::Stopped))), "{polled:?}");
        }
        rig.works();
        jump_ahead(&mut rig, direction, ring);
        rig.end();
    }
}

/// The count jumps within the outstanding descriptors. With credits, the write-back cannot reveal this, but the registers do when
/// the channel settles.
fn jump_ahead(rig: &mut Rig, direction: Direction, ring: Ring) {
    rig.inject(Kind::CountJump(1).on(direction, 0));
    let channel = rig.channel(direction);
    let (first, second) = (channel.submit().unwrap(), channel.submit().unwrap());
    match (ring, channel.channel.wait(second, SHORT)) {
        // Success is reported too early. If both had finished before the first poll, the count is beyond the outstanding
        // descriptors.
        (Ring::Credits, Ok(())) => {}
        (_, waited) => is_deadline(waited),
    }
    // While the second transfer is running, the jump happens to make the count plausible. On a busy machine, that may take some
    // time.
    std::thread::sleep(SHORT);
    is_deadline(channel.channel.settle(SHORT));
    assert!(ring == Ring::Credits || matches!(channel.channel.poll(first), Ok(Poll::Pending)));
    channel.channel.recover().unwrap();
    rig.works();
}

pub fn registers_that_read_all_ones(ring: Ring) {
    let mut rig = Rig::new(ring);
    rig.inject(Kind::AllOnes(FaultDuration::Millis(50)));
    is_gone(rig.h2c[0].channel.check());
    std::thread::sleep(Duration::from_millis(60));
    for channel in rig.h2c.iter_mut().chain(&mut rig.c2h) {
        channel.channel.recover().unwrap();
    }
    rig.works();
    rig.inject(Injection::from(Kind::AllOnes(FaultDuration::Forever)));
    let submitted = rig.c2h[0].submit().map_err(TransferError::from);
    is_gone(submitted.and_then(|_| Ok(rig.c2h[0].channel.settle(LIMIT)?)));
    is_gone(rig.h2c[0].channel.stop());
    assert!(matches!(rig.card.recover(), Err(CardError::Gone { .. })));
    let Rig { h2c, c2h, card, emulated, .. } = rig;
    immediately(|| drop((h2c, c2h, card)));
    assert!(open(&emulated).is_err(), "no card is recognised");
    assert!(emulated.violations().is_empty(), "{:?}", emulated.violations());
}
