//! A channel's registers. Reads check that the card still responds.

use super::error::{EngineError, Fail};
use super::snapshot::{RingState, Snapshot};
use crate::bus::counts::{self, Counts};
use crate::bus::{Bar, Block, BusError, Direct};
use crate::memory::order;
use crate::regs::channel::{
    COMPLETED_COUNT, CONTROL, CONTROL_W1C, CONTROL_W1S, Control, IRQ_ENABLE, PERF_CONTROL, STATUS, STATUS_RC,
    Status, WRITE_BACK_HI, WRITE_BACK_LO,
};
use crate::regs::{Direction, GONE, IDENTIFIER, Identifier, Target, common_bit, sgdma};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Offset from a channel's registers to those of its descriptor fetch, in both directions.
const SGDMA: u32 = Target::H2CSgdma.base(0) - Target::H2C.base(0);

#[derive(Debug)]
pub(super) struct Registers {
    bar: Arc<dyn Bar>,
    /// The channel's registers, followed at [`SGDMA`] by those of its descriptor fetch.
    block: Block,
    pub direction: Direction,
    pub index: usize,
}

impl Registers {
    pub fn new(bar: Arc<dyn Bar>, direction: Direction, index: usize) -> Result<Self, Fail> {
        let block = Block::new(bar.clone(), Target::channel(direction).base(index).into())?;
        Ok(Self { bar, block, direction, index })
    }

    /// Reads a register that is never all ones.
    fn read(&self, register: u32) -> Result<u32, Fail> {
        match self.block.read(register)? {
            GONE => Err(self.gone()),
            value => Ok(value),
        }
    }

    #[cold]
    #[inline(never)]
    fn gone(&self) -> Fail {
        Box::new(EngineError::Gone { direction: self.direction, channel: self.index, ring: None })
    }

    #[inline]
    pub fn write(&self, register: u32, value: u32) -> Result<(), Fail> {
        Ok(self.block.write(register, value)?)
    }

    /// Returns the registers if they are mapped.
    #[inline(always)]
    pub fn mapped(&self) -> Option<Mapped<'_>> {
        self.block.direct().map(Mapped)
    }

    /// Returns the number of accesses to mapped registers.
    pub fn counts(&self) -> Counts {
        self.block.counts()
    }

    /// Posts `count` more descriptors by adding credits.
    pub fn write_credits(&self, count: u32) -> Result<(), Fail> {
        self.write(SGDMA + sgdma::CREDITS, count)
    }

    /// Returns whether the engine is busy.
    pub fn is_busy(&self) -> Result<bool, Fail> {
        Ok(self.status()?.contains(Status::BUSY))
    }

    /// Starts the engine on a list: clears Run, writes the addresses of the list and of the write-back word, and sets Run.
    pub fn start(&self, word: u32, list: u64, adjacent: u8) -> Result<(), Fail> {
        self.clear_run()?;
        self.write(WRITE_BACK_LO, word)?;
        self.write(SGDMA + sgdma::DESCRIPTOR_LO, list as u32)?;
        self.write(SGDMA + sgdma::DESCRIPTOR_HI, (list >> 32) as u32)?;
        self.write(SGDMA + sgdma::DESCRIPTOR_ADJACENT, adjacent.into())?;
        order::before_doorbell();
        self.write(CONTROL_W1S, Control::RUN.bits())
    }

    /// Writes this channel's bit to a register of the common block.
    pub fn write_common(&self, register: u32) -> Result<(), Fail> {
        let address = Target::SgdmaCommon.base(0) + register;
        Ok(self.bar.write32(address.into(), common_bit(self.direction, self.index))?)
    }

    /// Reads another register of the channel that is never all ones.
    pub fn register(&self, register: u32) -> Result<u32, Fail> {
        self.read(register)
    }

    /// Reads the lower half of a counter, which may be all ones.
    pub fn counter_low(&self, register: u32) -> Result<u32, Fail> {
        Ok(self.block.read(register)?)
    }

    pub fn identifier(&self) -> Result<Identifier, Fail> {
        Ok(Identifier(self.read(IDENTIFIER)?))
    }

    pub fn status(&self) -> Result<Status, Fail> {
        Ok(Status::from_bits_retain(self.read(STATUS)?))
    }

    pub fn credits(&self) -> Result<u32, Fail> {
        self.read(SGDMA + sgdma::CREDITS)
    }

    /// Reads the number of descriptors completed since Run was set. The read response pushes the engine's earlier writes to
    /// memory.
    pub fn completed(&self) -> Result<u32, Fail> {
        self.read(COMPLETED_COUNT)
    }

    pub fn clear_run(&self) -> Result<(), Fail> {
        self.write(CONTROL_W1C, Control::RUN.bits())
    }

    /// Clears Run, waits until the engine is idle, and clears the sticky status bits. Calls `help` while the engine is busy. If
    /// the engine stays busy, the error has a snapshot with the value of `ring`.
    pub fn stop(
        &self,
        limit: Duration,
        ring: impl Fn() -> Option<RingState>,
        help: &mut dyn FnMut(),
    ) -> Result<(), Fail> {
        self.clear_run()?;
        let begin = Instant::now();
        while self.status()?.contains(Status::BUSY) {
            help();
            if begin.elapsed() > limit {
                return Err(EngineError::Hung { snapshot: Box::new(self.snapshot(ring())?) }.into());
            }
            counts::system_call();
            std::thread::yield_now();
        }
        self.clear_status().map(drop)
    }

    /// Reads and clears the sticky status bits.
    pub fn clear_status(&self) -> Result<Status, Fail> {
        Ok(Status::from_bits_retain(self.read(STATUS_RC)?))
    }

    /// Restores the reset values of the channel's control registers. The engine is idle.
    pub fn reset(&self) -> Result<(), Fail> {
        Ok(reset_channel(&*self.bar, self.direction, self.index)?)
    }

    /// Reads the registers after an error was seen in `status`. If they can no longer be read, because the card is gone, the
    /// snapshot has `status` and all ones.
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

    /// Reads all registers that help to explain an error. `ring` becomes part of the snapshot.
    pub fn snapshot(&self, ring: Option<RingState>) -> Result<Snapshot, Fail> {
        let lo = self.block.read(SGDMA + sgdma::DESCRIPTOR_LO)?;
        let hi = self.block.read(SGDMA + sgdma::DESCRIPTOR_HI)?;
        Ok(Snapshot {
            direction: self.direction,
            channel: self.index,
            status: self.status()?,
            control: Control::from_bits_retain(self.read(CONTROL)?),
            completed: self.completed()?,
            list: u64::from(hi) << 32 | u64::from(lo),
            credits: self.credits()?,
            ring,
        })
    }
}

/// The mapped registers of the hot path. Each access is a load or a store and cannot fail.
#[derive(Clone, Copy)]
pub(super) struct Mapped<'a>(Direct<'a>);

impl Mapped<'_> {
    /// Returns whether the engine is idle; false if the register reads all ones. If it is idle, the caller starts it, and passes the
    /// read to [`start`](Self::start), which counts it together with the writes.
    #[inline(always)]
    pub fn is_idle(self) -> bool {
        let is_idle = self.0.read::<STATUS>() & Status::BUSY.bits() == 0;
        if !is_idle {
            self.0.count(1, 0);
        }
        is_idle
    }

    /// As [`Registers::start`]. `reads` is the number of reads before, which were not counted.
    #[inline(always)]
    pub fn start(self, word: u32, list: u64, adjacent: u8, reads: u64) {
        self.0.write::<CONTROL_W1C>(Control::RUN.bits());
        self.0.write::<WRITE_BACK_LO>(word);
        self.0.write::<{ SGDMA + sgdma::DESCRIPTOR_LO }>(list as u32);
        self.0.write::<{ SGDMA + sgdma::DESCRIPTOR_HI }>((list >> 32) as u32);
        self.0.write::<{ SGDMA + sgdma::DESCRIPTOR_ADJACENT }>(adjacent.into());
        order::before_doorbell();
        self.0.write::<CONTROL_W1S>(Control::RUN.bits());
        self.0.count(reads, 6);
    }

    /// Posts `count` more descriptors by adding credits.
    #[inline(always)]
    pub fn write_credits(self, count: u32) {
        self.0.write::<{ SGDMA + sgdma::CREDITS }>(count);
        self.0.count(0, 1);
    }
}

/// Restores the reset values of all control registers that a driver writes, so that the next driver works without resetting the
/// channel. The vendor's driver, for example, never clears the halt of descriptor fetch. The engine must be idle, and must not
/// be started meanwhile: a half-written address points anywhere.
pub(crate) fn reset_channel(bar: &dyn Bar, direction: Direction, index: usize) -> Result<(), BusError> {
    let (channel, fetch) = (Target::channel(direction).base(index), Target::sgdma(direction).base(index));
    for register in [CONTROL, IRQ_ENABLE, WRITE_BACK_LO, WRITE_BACK_HI, PERF_CONTROL] {
        bar.write32((channel + register).into(), 0)?;
    }
    for register in [sgdma::DESCRIPTOR_LO, sgdma::DESCRIPTOR_HI, sgdma::DESCRIPTOR_ADJACENT] {
        bar.write32((fetch + register).into(), 0)?;
    }
    // Disabling credit mode clears the credits.
    for register in [sgdma::CREDIT_ENABLE_W1C, sgdma::FETCH_HALT_W1C] {
        let address = Target::SgdmaCommon.base(0) + register;
        bar.write32(address.into(), common_bit(direction, index))?;
    }
    Ok(())
}
