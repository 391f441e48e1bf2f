//! The block of XDMA registers in AWS's F2 shell, which only delivers interrupts.
//!
//! The custom logic pulses one of 16 lines. The block's user interrupt enable mask decides whether a message is sent, and its vector
//! numbers decide which (AWS, sdk/apps/msix-interrupts). Whether it remembers a pulse on a masked line is unknown; here, it does not.
//! Its identifiers announce one channel in each direction. What those do when they are started is unknown; here, they stay busy.

use super::log::{EventLog, Rule};
use xdma_regs::channel::{CONTROL, CONTROL_W1C, CONTROL_W1S, Control, STATUS, STATUS_RC, Status};
use xdma_regs::{IDENTIFIER, irq};

/// Number of lines from the custom logic.
const LINES: usize = xdma_regs::USER_IRQS;
/// The identifiers of its targets, with the version that AWS's example prints.
const IDENTIFIERS: [u32; 7] =
    [0x1fc0_0006, 0x1fc1_0006, 0x1fc2_0006, 0x1fc3_0006, 0x1fc4_0006, 0x1fc5_0006, 0x1fc6_0006];

#[derive(Debug, Default)]
pub(super) struct InterruptBlock {
    enable: u32,
    vectors: [u32; 4],
    /// The control registers of the channels.
    control: [u32; 2],
}

impl InterruptBlock {
    /// Returns the vector of the message that a pulse on a line sends, if it sends one.
    pub fn vector(&self, line: usize) -> Option<usize> {
        let enabled = line < LINES && self.enable >> line & 1 != 0;
        enabled.then(|| (self.vectors[line / 4] >> (8 * (line % 4)) & 0x1f) as usize)
    }

    pub fn read(&self, address: u32) -> u32 {
        let target = (address >> 12) as usize;
        match (target, address & 0xfff) {
            (0..=6, IDENTIFIER) => IDENTIFIERS[target],
            (0 | 1, CONTROL) => self.control[target],
            (0 | 1, STATUS | STATUS_RC) if self.control[target] & Control::RUN.bits() != 0 => {
                Status::BUSY.bits()
            }
            (2, irq::USER_ENABLE) => self.enable,
            (2, offset) => vector_register(offset).map_or(0, |index| self.vectors[index]),
            _ => 0,
        }
    }

    pub fn write(&mut self, address: u32, value: u32, log: &EventLog) {
        const USERS: u32 = (1 << LINES) - 1;
        let target = (address >> 12) as usize;
        match (target, address & 0xfff) {
            (0 | 1, CONTROL) => self.set_control(target, value, log),
            (0 | 1, CONTROL_W1S) => self.set_control(target, self.control[target] | value, log),
            (0 | 1, CONTROL_W1C) => self.set_control(target, self.control[target] & !value, log),
            (2, irq::USER_ENABLE) => self.enable = value & USERS,
            (2, irq::USER_ENABLE_W1S) => self.enable |= value & USERS,
            (2, irq::USER_ENABLE_W1C) => self.enable &= !value,
            (2, offset) => {
                if let Some(index) = vector_register(offset) {
                    self.vectors[index] = value & 0x1f1f_1f1f;
                }
            }
            _ => {}
        }
    }

    fn set_control(&mut self, channel: usize, value: u32, log: &EventLog) {
        if value & Control::RUN.bits() != 0 {
            log.violation(Rule::InterruptBlockStarted, (channel as u64) << 12 | u64::from(CONTROL), None);
        }
        self.control[channel] = value;
    }
}

/// Returns which vector register is at an offset.
fn vector_register(offset: u32) -> Option<usize> {
    let index = offset.checked_sub(irq::USER_VECTORS)? as usize / 4;
    (index < LINES / 4).then_some(index)
}
