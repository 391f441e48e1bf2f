//! Bringing every engine to rest, whatever state a predecessor left: few cards have a reset to rely on.

use super::CardError;
use crate::bus::{Bar, Bus, counts};
use crate::regs::channel::{CONTROL_W1C, Control, IRQ_ENABLE, STATUS, STATUS_RC, Status};
use crate::regs::sgdma::{CREDIT_ENABLE_W1C, FETCH_HALT_W1S};
use crate::regs::{Direction, GONE, IDENTIFIER, Identifier, MAX_CHANNELS, Target, irq};
use std::time::{Duration, Instant};

/// PCI command register, and its bits for memory space and bus mastering.
const COMMAND: u16 = 0x04;
const MEMORY_SPACE: u32 = 1 << 1;
const BUS_MASTER: u32 = 1 << 2;

/// Channels that exist, H2C first.
pub(super) fn channels(registers: &dyn Bar) -> Result<Vec<(Direction, usize, Identifier)>, CardError> {
    let mut found = vec![];
    for direction in [Direction::H2C, Direction::C2H] {
        let target = Target::channel(direction);
        for channel in 0..MAX_CHANNELS {
            let id = Identifier(registers.read32((target.base(channel) + IDENTIFIER).into())?);
            if !id.is(target, channel) {
                break;
            }
            found.push((direction, channel, id));
        }
    }
    Ok(found)
}

/// Stops all engines, turns credits and interrupts off; resets the function if an engine stays busy.
pub(super) fn quiesce(bus: &dyn Bus, registers: &dyn Bar, limit: Duration) -> Result<(), CardError> {
    match stop_all(registers, limit) {
        Err(CardError::Hung { direction, channel, status, .. }) if bus.description().resettable => {
            bus.reset()?;
            let tried = "not even after a function reset";
            stop_all(registers, limit).map_err(|error| match error {
                CardError::Hung { .. } => CardError::Hung { direction, channel, status, tried },
                error => error,
            })
        }
        result => result,
    }
}

/// Reads a register that no card has as all ones.
pub(super) fn check_present(registers: &dyn Bar) -> Result<(), CardError> {
    if registers.read32((Target::Irq.base(0) + IDENTIFIER).into())? == GONE {
        return Err(CardError::Gone { what: "the interrupt block" });
    }
    Ok(())
}

fn stop_all(registers: &dyn Bar, limit: Duration) -> Result<(), CardError> {
    let common = |register: u32| u64::from(Target::SgdmaCommon.base(0) + register);
    let irqs = |register: u32| u64::from(Target::Irq.base(0) + register);
    // Without this, a card that is gone would pass for one without channels.
    check_present(registers)?;
    let channels = channels(registers)?;
    registers.write32(common(FETCH_HALT_W1S), !0)?;
    for &(direction, channel, _) in &channels {
        let base = Target::channel(direction).base(channel);
        registers.write32((base + CONTROL_W1C).into(), Control::RUN.bits())?;
        registers.write32((base + IRQ_ENABLE).into(), 0)?;
    }
    let begin = Instant::now();
    for &(direction, channel, _) in &channels {
        wait_idle(registers, direction, channel, (begin, limit))?;
    }
    registers.write32(common(CREDIT_ENABLE_W1C), !0)?;
    registers.write32(irqs(irq::USER_ENABLE_W1C), !0)?;
    registers.write32(irqs(irq::CHANNEL_ENABLE_W1C), !0)?;
    Ok(())
}

fn wait_idle(
    registers: &dyn Bar,
    direction: Direction,
    channel: usize,
    (begin, limit): (Instant, Duration),
) -> Result<(), CardError> {
    let base = Target::channel(direction).base(channel);
    loop {
        let status = registers.read32((base + STATUS).into())?;
        if status == GONE {
            return Err(CardError::Gone { what: "a channel's status register" });
        }
        if status & Status::BUSY.bits() == 0 {
            registers.read32((base + STATUS_RC).into())?;
            return Ok(());
        }
        if begin.elapsed() > limit {
            return Err(CardError::Hung {
                direction,
                channel,
                status,
                tried: "and the function has no reset",
            });
        }
        counts::system_call();
        std::thread::yield_now();
    }
}

/// Lets the card reach host memory, or not. The registers are enabled too: some kernels leave that to us.
pub(super) fn set_bus_master(bus: &dyn Bus, on: bool) -> Result<(), CardError> {
    let command = bus.config_read(COMMAND, 2)? | MEMORY_SPACE;
    let command = if on { command | BUS_MASTER } else { command & !BUS_MASTER };
    Ok(bus.config_write(COMMAND, 2, command)?)
}
