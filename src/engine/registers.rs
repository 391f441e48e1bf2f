//! A channel's registers, with the check that the card is still there.

use super::{EngineError, RingState, Snapshot};
use crate::bus::{Bar, Block, BusError, counts};
use crate::memory::order;
use crate::regs::channel::{
    COMPLETED_COUNT, CONTROL, CONTROL_W1C, CONTROL_W1S, Control, IRQ_ENABLE, PERF_CONTROL, STATUS, STATUS_RC,
    Status, WRITE_BACK_HI, WRITE_BACK_LO,
};
use crate::regs::{Direction, GONE, IDENTIFIER, Identifier, Target, common_bit, sgdma};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Registers {
    bar: Arc<dyn Bar>,
    channel: Block,
    sgdma: Block,
    pub direction: Direction,
    pub index: usize,
}

impl Registers {
    pub fn new(bar: Arc<dyn Bar>, direction: Direction, index: usize) -> Result<Self, EngineError> {
        let block = |target: Target| Block::new(bar.clone(), target.base(index).into());
        let (channel, sgdma) = (block(Target::channel(direction))?, block(Target::sgdma(direction))?);
        Ok(Self { bar, channel, sgdma, direction, index })
    }

    /// Reads a register that is never all ones.
    #[inline(always)]
    fn read(&self, block: &Block, register: u32) -> Result<u32, EngineError> {
        match block.read(register)? {
            GONE => Err(EngineError::Gone { direction: self.direction, channel: self.index, ring: None }),
            value => Ok(value),
        }
    }

    #[inline]
    pub fn write(&self, register: u32, value: u32) -> Result<(), EngineError> {
        Ok(self.channel.write(register, value)?)
    }

    #[inline(always)]
    pub fn write_sgdma(&self, register: u32, value: u32) -> Result<(), EngineError> {
        Ok(self.sgdma.write(register, value)?)
    }

    /// Starts the engine on a list: clears Run and sets it, with the list and the write-back word's address in between.
    #[inline(always)]
    pub fn start(&self, word: u32, list: u64, adjacent: u8) -> Result<(), EngineError> {
        match (self.channel.direct(), self.sgdma.direct()) {
            (Some(channel), Some(sgdma)) => Ok(start_sequence(
                |register, value| channel.write(register, value),
                |register, value| sgdma.write(register, value),
                (word, list, adjacent),
            )?),
            _ => self.start_unmapped(word, list, adjacent),
        }
    }

    #[cold]
    fn start_unmapped(&self, word: u32, list: u64, adjacent: u8) -> Result<(), EngineError> {
        Ok(start_sequence(
            |register, value| self.channel.write(register, value),
            |register, value| self.sgdma.write(register, value),
            (word, list, adjacent),
        )?)
    }

    /// Writes this channel's bit to a register of the common block.
    pub fn write_common(&self, register: u32) -> Result<(), EngineError> {
        let address = Target::SgdmaCommon.base(0) + register;
        Ok(self.bar.write32(address.into(), common_bit(self.direction, self.index))?)
    }

    /// Another of the channel's registers, one that is never all ones.
    pub fn register(&self, register: u32) -> Result<u32, EngineError> {
        self.read(&self.channel, register)
    }

    /// The lower half of a counter, which may be all ones.
    pub fn counter_low(&self, register: u32) -> Result<u32, EngineError> {
        Ok(self.channel.read(register)?)
    }

    pub fn identifier(&self) -> Result<Identifier, EngineError> {
        Ok(Identifier(self.read(&self.channel, IDENTIFIER)?))
    }

    #[inline(always)]
    pub fn status(&self) -> Result<Status, EngineError> {
        Ok(Status::from_bits_retain(self.read(&self.channel, STATUS)?))
    }

    pub fn credits(&self) -> Result<u32, EngineError> {
        self.read(&self.sgdma, sgdma::CREDITS)
    }

    /// Descriptors completed since Run was set. The answer pushes what the engine wrote before it to memory.
    pub fn completed(&self) -> Result<u32, EngineError> {
        self.read(&self.channel, COMPLETED_COUNT)
    }

    /// Clears Run and waits until the engine is idle; the sticky status bits go to the snapshot, then away.
    pub fn stop(&self, limit: Duration) -> Result<(), EngineError> {
        self.stop_with(limit, || None, &mut || Ok(()))
    }

    /// As [`stop`](Self::stop), calling `help` as long as the engine is busy; `ring` goes to the snapshot.
    pub fn stop_with(
        &self,
        limit: Duration,
        ring: impl Fn() -> Option<RingState>,
        help: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.write(CONTROL_W1C, Control::RUN.bits())?;
        let begin = Instant::now();
        while self.status()?.contains(Status::BUSY) {
            help()?;
            if begin.elapsed() > limit {
                return Err(EngineError::Hung { snapshot: Box::new(self.snapshot(ring())?) });
            }
            counts::system_call();
            std::thread::yield_now();
        }
        self.clear_status().map(drop)
    }

    /// Reads the sticky status bits, which go away.
    pub fn clear_status(&self) -> Result<Status, EngineError> {
        Ok(Status::from_bits_retain(self.read(&self.channel, STATUS_RC)?))
    }

    /// Writes the channel's control registers as a reset leaves them. The engine is idle.
    pub fn reset(&self) -> Result<(), EngineError> {
        Ok(reset_channel(&*self.bar, self.direction, self.index)?)
    }

    /// Reads what can still be read after an error that was seen in `status`: the other registers are all ones if the card went away
    /// since.
    pub fn snapshot_after(&self, status: Status, ring: RingState) -> Snapshot {
        let Self { direction, index: channel, .. } = *self;
        self.snapshot(Some(ring)).map(|read| Snapshot { status: read.status | status, ..read }).unwrap_or(
            Snapshot {
                direction,
                channel,
                status,
                control: Control::from_bits_retain(GONE),
                completed: GONE,
                list: u64::MAX,
                credits: GONE,
                ring: Some(ring),
            },
        )
    }

    /// Reads everything that explains an error; `ring` is added to it.
    pub fn snapshot(&self, ring: Option<RingState>) -> Result<Snapshot, EngineError> {
        let lo = self.sgdma.read(sgdma::DESCRIPTOR_LO)?;
        let hi = self.sgdma.read(sgdma::DESCRIPTOR_HI)?;
        Ok(Snapshot {
            direction: self.direction,
            channel: self.index,
            status: self.status()?,
            control: Control::from_bits_retain(self.read(&self.channel, CONTROL)?),
            completed: self.completed()?,
            list: u64::from(hi) << 32 | u64::from(lo),
            credits: self.credits()?,
            ring,
        })
    }
}

/// Writes every control register of a channel that a driver writes as a reset leaves it, so that the next driver works without one:
/// the vendor's, for one, never ends the halt of descriptor fetch. The engine is idle, and nobody else starts it meanwhile: an address
/// that is half written leads anywhere.
pub(crate) fn reset_channel(bar: &dyn Bar, direction: Direction, index: usize) -> Result<(), BusError> {
    let (channel, fetch) = (Target::channel(direction).base(index), Target::sgdma(direction).base(index));
    for register in [CONTROL, IRQ_ENABLE, WRITE_BACK_LO, WRITE_BACK_HI, PERF_CONTROL] {
        bar.write32((channel + register).into(), 0)?;
    }
    for register in [sgdma::DESCRIPTOR_LO, sgdma::DESCRIPTOR_HI, sgdma::DESCRIPTOR_ADJACENT] {
        bar.write32((fetch + register).into(), 0)?;
    }
    // Credits go with their mode.
    for register in [sgdma::CREDIT_ENABLE_W1C, sgdma::FETCH_HALT_W1C] {
        let address = Target::SgdmaCommon.base(0) + register;
        bar.write32(address.into(), common_bit(direction, index))?;
    }
    Ok(())
}

#[inline]
fn start_sequence(
    channel: impl Fn(u32, u32) -> Result<(), BusError>,
    sgdma: impl Fn(u32, u32) -> Result<(), BusError>,
    (word, list, adjacent): (u32, u64, u8),
) -> Result<(), BusError> {
    channel(CONTROL_W1C, Control::RUN.bits())?;
    channel(WRITE_BACK_LO, word)?;
    sgdma(sgdma::DESCRIPTOR_LO, list as u32)?;
    sgdma(sgdma::DESCRIPTOR_HI, (list >> 32) as u32)?;
    sgdma(sgdma::DESCRIPTOR_ADJACENT, adjacent.into())?;
    order::before_doorbell();
    channel(CONTROL_W1S, Control::RUN.bits())
}
