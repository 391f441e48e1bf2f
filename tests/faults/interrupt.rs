//! Interrupts that are lost, doubled or late: a transfer is done whatever they say.

use crate::rig::{LIMIT, Rig, SHORT};
use xdma::card::{Interrupt, Source};
use xdma::channel::Ring;
use xdma::regs::Direction;
use xdma_emulator::faults::Kind;

const DIRECTION: Direction = Direction::C2H;

fn rig(ring: Ring, fault: Kind) -> (Rig, Interrupt) {
    let rig = Rig::new(ring);
    let fired = rig.card.interrupt(Source::Channel(DIRECTION, 0)).unwrap();
    rig.inject(fault.on(DIRECTION, 0));
    (rig, fired)
}

/// One transfer without a fault, told by its interrupt.
fn is_told(rig: &mut Rig, fired: &Interrupt) {
    rig.c2h[0].channel.rearm_interrupt().unwrap();
    fired.take();
    let ticket = rig.c2h[0].submit().unwrap();
    assert!(fired.wait(LIMIT).unwrap() > 0);
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
}

pub fn an_interrupt_that_is_lost(ring: Ring) {
    let (mut rig, fired) = rig(ring, Kind::InterruptLost);
    let ticket = rig.c2h[0].submit().unwrap();
    assert_eq!(fired.wait(SHORT).unwrap(), 0, "it does not come");
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    assert_eq!(rig.injected("InterruptLost"), 1);
    is_told(&mut rig, &fired);
    rig.works();
    drop(fired);
    rig.end();
}

pub fn an_interrupt_that_comes_twice(ring: Ring) {
    let (mut rig, fired) = rig(ring, Kind::InterruptRepeated);
    let ticket = rig.c2h[0].submit().unwrap();
    let mut seen = 0;
    while seen < 2 {
        seen += fired.wait(LIMIT).unwrap();
    }
    assert_eq!((seen, rig.injected("InterruptRepeated")), (2, 1));
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    is_told(&mut rig, &fired);
    rig.works();
    drop(fired);
    rig.end();
}

pub fn an_interrupt_that_is_late(ring: Ring) {
    let (mut rig, fired) = rig(ring, Kind::InterruptLate(30));
    let ticket = rig.c2h[0].submit().unwrap();
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    assert!(fired.wait(LIMIT).unwrap() > 0, "it comes");
    is_told(&mut rig, &fired);
    rig.works();
    drop(fired);
    rig.end();
}
