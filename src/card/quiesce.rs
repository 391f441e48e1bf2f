//! Stopping all engines, whatever state a previous user left them in. Few cards have a function reset to rely on.

use super::CardError;
use crate::bus::{BUS_MASTER, Bar, Bus, BusError, COMMAND, MEMORY_SPACE, counts};
use crate::channel::reset_channel;
use crate::regs::channel::{CONTROL_W1C, Control, STATUS, STATUS_RC, Status};
use crate::regs::sgdma::{CREDIT_ENABLE_W1C, FETCH_HALT_W1C, FETCH_HALT_W1S};
use crate::regs::{
    Direction, GONE, IDENTIFIER, Identifier, MAX_CHANNELS, Target, USER_IRQS, common_bit, irq,
};
use std::time::{Duration, Instant};

/// Returns the channels that exist, H2C first.
pub(super) fn channels(registers: &dyn Bar) -> Result<Vec<(Direction, usize, Identifier)>, CardError> {
    let mut found = vec![];
    for direction in [Direction::H2C, Direction::C2H] {
        let target = Target::channel(direction);
        for channel in 0..MAX_CHANNELS {
            let id = Identifier(registers.read32((target.base(channel) + IDENTIFIER).into())?);
            if id.0 == GONE {
                // The remaining channels are unknown.
                return Err(CardError::Gone { what: "a channel's identifier" });
            }
            if !id.is(target, channel) {
                break;
            }
            found.push((direction, channel, id));
        }
    }
    Ok(found)
}

/// Whether channels may be in use while they are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    /// They are not in use. All control registers that a driver writes are set to their reset values.
    Closed,
    /// Their owners may be starting them concurrently. Address registers are not written, because two concurrent writes could mix
    /// their halves, and descriptor fetch stays halted until the owners recover.
    Open,
}

/// Stops all engines, and resets the function if an engine stays busy.
pub(super) fn quiesce(
    bus: &dyn Bus,
    registers: &dyn Bar,
    channels: Channels,
    limit: Duration,
) -> Result<(), CardError> {
    match stop_all(registers, channels, limit) {
        Err(CardError::Hung { direction, channel, status, .. }) if bus.description().resettable => {
            bus.reset()?;
            let tried = "not even after a function reset";
            stop_all(registers, channels, limit).map_err(|error| match error {
                CardError::Hung { .. } => CardError::Hung { direction, channel, status, tried },
                error => error,
            })
        }
        result => result,
    }
}

/// Checks that the card is present, by a register that never reads all ones.
pub(super) fn check_present(registers: &dyn Bar) -> Result<(), CardError> {
    if registers.read32((Target::Irq.base(0) + IDENTIFIER).into())? == GONE {
        return Err(CardError::Gone { what: "the interrupt block" });
    }
    Ok(())
}

/// Stops every engine and returns the first error. If an engine is not seen idle, none of its registers but Run are changed.
fn stop_all(registers: &dyn Bar, usage: Channels, limit: Duration) -> Result<(), CardError> {
    // Without this check, a card that is gone would look like a card without channels.
    check_present(registers)?;
    let channels = channels(registers)?;
    for &(direction, channel, _) in &channels {
        write_common(registers, FETCH_HALT_W1S, common_bit(direction, channel))?;
        let base = Target::channel(direction).base(channel);
        registers.write32((base + CONTROL_W1C).into(), Control::RUN.bits())?;
    }
    let (begin, mut stopped, mut busy) = (Instant::now(), Ok(()), 0);
    for &(direction, channel, _) in &channels {
        match wait_idle(registers, direction, channel, (begin, limit)) {
            Ok(()) if usage == Channels::Closed => reset_channel(registers, direction, channel)?,
            Ok(()) => {}
            // Continue even if this channel's registers read all ones: those of the others may still be accessible.
            Err(error) => {
                busy |= common_bit(direction, channel);
                stopped = stopped.and(Err(error));
            }
        }
    }
    // This includes the bits of channels that do not exist; a previous user may have set them.
    write_common(registers, CREDIT_ENABLE_W1C, !busy)?;
    if usage == Channels::Closed {
        write_common(registers, FETCH_HALT_W1C, !busy)?;
    }
    reset_interrupts(registers)?;
    stopped
}

fn write_common(registers: &dyn Bar, register: u32, value: u32) -> Result<(), BusError> {
    registers.write32((Target::SgdmaCommon.base(0) + register).into(), value)
}

/// Masks all interrupts and resets all vector numbers.
fn reset_interrupts(registers: &dyn Bar) -> Result<(), BusError> {
    let write = |register: u32, value| registers.write32((Target::Irq.base(0) + register).into(), value);
    write(irq::USER_ENABLE_W1C, !0)?;
    write(irq::CHANNEL_ENABLE_W1C, !0)?;
    (0..USER_IRQS as u32).step_by(4).try_for_each(|at| write(irq::USER_VECTORS + at, 0))?;
    (0..2 * MAX_CHANNELS as u32).step_by(4).try_for_each(|at| write(irq::CHANNEL_VECTORS + at, 0))
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

/// The value of the function's command register when the card was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command(u32);

impl Command {
    pub fn read(bus: &dyn Bus) -> Result<Self, CardError> {
        match bus.config_read(COMMAND, 2)? {
            0xffff => Err(CardError::Gone { what: "config space" }),
            command => Ok(Self(command)),
        }
    }

    /// Enables bus mastering and memory space. Some kernels leave memory space disabled.
    pub fn enable_bus_master(self, bus: &dyn Bus) -> Result<(), CardError> {
        Ok(bus.config_write(COMMAND, 2, self.0 | MEMORY_SPACE | BUS_MASTER)?)
    }

    /// Enables memory space and disables bus mastering.
    pub fn enable_registers(self, bus: &dyn Bus) -> Result<(), CardError> {
        Self(self.0 | MEMORY_SPACE).restore(bus)
    }

    /// Restores the original value with bus mastering disabled, and reads the bit back to verify it.
    pub fn restore(self, bus: &dyn Bus) -> Result<(), CardError> {
        bus.config_write(COMMAND, 2, self.0 & !BUS_MASTER)?;
        match Self::read(bus)?.0 & BUS_MASTER {
            0 => Ok(()),
            _ => Err(CardError::NotCutOff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regs::channel::CONTROL;
    use std::collections::HashMap;
    use std::sync::Mutex;

    /// An XDMA core with two idle H2C channels that a previous user left running.
    #[derive(Debug)]
    struct Core {
        registers: Mutex<HashMap<u64, u32>>,
        /// Address of a register that reads all ones.
        gone: u32,
    }

    const HALTED: u64 = 0x6014;
    const RELEASED: u64 = 0x6018;

    impl Core {
        fn new(gone: u32) -> Self {
            let identifiers =
                [0, 1].map(|channel| (Target::H2C, channel)).into_iter().chain([(Target::Irq, 0)]);
            let of = |(target, channel): (Target, usize)| {
                (u64::from(target.base(channel)), Identifier::new(target, channel, false).0)
            };
            let mut registers: HashMap<_, _> = identifiers.map(of).collect();
            registers.extend([(0x004, 1), (0x104, 1)]);
            Self { registers: Mutex::new(registers), gone }
        }

        fn seen(&self, address: u64) -> u32 {
            self.registers.lock().unwrap().get(&address).copied().unwrap_or(0)
        }
    }

    // SAFETY: nothing is mapped.
    unsafe impl Bar for Core {
        fn size(&self) -> u64 {
            0x1_0000
        }

        fn read32(&self, offset: u64) -> Result<u32, BusError> {
            Ok(if offset == u64::from(self.gone) { GONE } else { self.seen(offset) })
        }

        fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
            self.registers.lock().unwrap().insert(offset, value);
            Ok(())
        }
    }

    fn stopped(gone: u32) -> (Core, Result<(), CardError>) {
        let core = Core::new(gone);
        let stopped = stop_all(&core, Channels::Closed, Duration::from_millis(10));
        (core, stopped)
    }

    #[test]
    fn an_identifier_of_all_ones_means_that_the_card_is_gone() {
        for channel in [0, 1] {
            let (_, stopped) = stopped(Target::H2C.base(channel) + IDENTIFIER);
            assert!(matches!(stopped, Err(CardError::Gone { .. })), "{channel}: {stopped:?}");
        }
    }

    #[test]
    fn an_unreadable_channel_does_not_prevent_resetting_the_others() {
        for (silent, other) in [(0, 1), (1, 0)] {
            let (core, stopped) = stopped(Target::H2C.base(silent) + STATUS);
            assert!(matches!(stopped, Err(CardError::Gone { .. })), "{stopped:?}");
            assert_eq!(core.seen(u64::from(Target::H2C.base(other) + CONTROL)), 0);
            assert_eq!(core.seen(u64::from(Target::H2C.base(silent) + CONTROL)), 1, "it is not written");
            let (halted, released) = (core.seen(HALTED), core.seen(RELEASED));
            assert_ne!(halted, 0);
            assert_eq!(released, !common_bit(Direction::H2C, silent), "the others fetch again");
        }
    }
}
