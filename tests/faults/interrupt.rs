//! Lost, repeated and late interrupts: transfers finish regardless.

use crate::rig::{LIMIT, Rig, SHORT};
use xdma::card::{Interrupt, Source};
use xdma::channel::Ring;
use xdma::regs::Direction;
use xdma_emulator::faults::Kind;

const DIRECTION: Direction = Direction::C2H;

fn rig(ring: Ring, fault: Kind) -> (Rig, Interrupt) {
    let rig = Rig::new(ring);
    let interrupt = rig.card.interrupt(Source::Channel(DIRECTION, 0)).unwrap();
    rig.inject(fault.on(DIRECTION, 0));
    (rig, interrupt)
}

/// Checks that a transfer without a fault causes an interrupt.
fn interrupts(rig: &mut Rig, interrupt: &Interrupt) {
    rig.c2h[0].channel.rearm_interrupt().unwrap();
    interrupt.take();
    let ticket = rig.c2h[0].submit().unwrap();
    assert!(interrupt.wait(LIMIT).unwrap() > 0);
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
}

pub fn a_lost_interrupt(ring: Ring) {
    let (mut rig, interrupt) = rig(ring, Kind::InterruptLost);
    let ticket = rig.c2h[0].submit().unwrap();
    assert_eq!(interrupt.wait(SHORT).unwrap(), 0, "the interrupt is lost");
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    assert_eq!(rig.injected("InterruptLost"), 1);
    interrupts(&mut rig, &interrupt);
    rig.works();
    drop(interrupt);
    rig.end();
}

pub fn a_repeated_interrupt(ring: Ring) {
    let (mut rig, interrupt) = rig(ring, Kind::InterruptRepeated);
    let ticket = rig.c2h[0].submit().unwrap();
    let mut seen = 0;
    while seen < 2 {
        seen += interrupt.wait(LIMIT).unwrap();
    }
    assert_eq!((seen, rig.injected("InterruptRepeated")), (2, 1));
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    interrupts(&mut rig, &interrupt);
    rig.works();
    drop(interrupt);
    rig.end();
}

pub fn a_late_interrupt(ring: Ring) {
    let (mut rig, interrupt) = rig(ring, Kind::InterruptLate(30));
    let ticket = rig.c2h[0].submit().unwrap();
    rig.c2h[0].channel.wait(ticket, LIMIT).unwrap();
    assert!(interrupt.wait(LIMIT).unwrap() > 0, "the interrupt arrives");
    interrupts(&mut rig, &interrupt);
    rig.works();
    drop(interrupt);
    rig.end();
}
