//! A channel's registers, with the check that the card is still there.

use super::{EngineError, Snapshot};
use crate::bus::{Bar, counts};
use crate::regs::channel::{COMPLETED_COUNT, CONTROL, CONTROL_W1C, Control, STATUS, STATUS_RC, Status};
use crate::regs::{Direction, GONE, IDENTIFIER, Identifier, Target, common_bit, sgdma};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Registers {
    bar: Arc<dyn Bar>,
    pub direction: Direction,
    pub index: usize,
}

impl Registers {
    pub fn new(bar: Arc<dyn Bar>, direction: Direction, index: usize) -> Self {
        Self { bar, direction, index }
    }

    fn channel(&self, register: u32) -> u64 {
        (Target::channel(self.direction).base(self.index) + register).into()
    }

    fn sgdma(&self, register: u32) -> u64 {
        (Target::sgdma(self.direction).base(self.index) + register).into()
    }

    /// Reads a register that is never all ones.
    fn read(&self, address: u64) -> Result<u32, EngineError> {
        match self.bar.read32(address)? {
            GONE => Err(EngineError::Gone { direction: self.direction, channel: self.index }),
            value => Ok(value),
        }
    }

    #[inline]
    pub fn write(&self, register: u32, value: u32) -> Result<(), EngineError> {
        Ok(self.bar.write32(self.channel(register), value)?)
    }

    #[inline]
    pub fn write_sgdma(&self, register: u32, value: u32) -> Result<(), EngineError> {
        Ok(self.bar.write32(self.sgdma(register), value)?)
    }

    /// Writes this channel's bit to a register of the common block.
    pub fn write_common(&self, register: u32) -> Result<(), EngineError> {
        let address = Target::SgdmaCommon.base(0) + register;
        Ok(self.bar.write32(address.into(), common_bit(self.direction, self.index))?)
    }

    pub fn identifier(&self) -> Result<Identifier, EngineError> {
        Ok(Identifier(self.read(self.channel(IDENTIFIER))?))
    }

    pub fn status(&self) -> Result<Status, EngineError> {
        Ok(Status::from_bits_retain(self.read(self.channel(STATUS))?))
    }

    pub fn credits(&self) -> Result<u32, EngineError> {
        self.read(self.sgdma(sgdma::CREDITS))
    }

    /// Clears Run and waits until the engine is idle; the sticky status bits go to the snapshot, then away.
    pub fn stop(&self, limit: Duration) -> Result<(), EngineError> {
        self.stop_with(limit, &mut || Ok(()))
    }

    /// As [`stop`](Self::stop), calling `help` as long as the engine is busy.
    pub fn stop_with(
        &self,
        limit: Duration,
        help: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.write(CONTROL_W1C, Control::RUN.bits())?;
        let end = Instant::now() + limit;
        while self.status()?.contains(Status::BUSY) {
            help()?;
            if Instant::now() > end {
                return Err(EngineError::Hung { snapshot: Box::new(self.snapshot(0)?) });
            }
            counts::system_call();
            std::thread::yield_now();
        }
        self.read(self.channel(STATUS_RC)).map(drop)
    }

    pub fn snapshot(&self, write_back: u32) -> Result<Snapshot, EngineError> {
        let lo = self.bar.read32(self.sgdma(sgdma::DESCRIPTOR_LO))?;
        let hi = self.bar.read32(self.sgdma(sgdma::DESCRIPTOR_HI))?;
        Ok(Snapshot {
            direction: self.direction,
            channel: self.index,
            status: self.status()?,
            control: Control::from_bits_retain(self.read(self.channel(CONTROL))?),
            completed: self.read(self.channel(COMPLETED_COUNT))?,
            write_back,
            list: u64::from(hi) << 32 | u64::from(lo),
            credits: self.credits()?,
        })
    }
}
