//! An engine whose registers are accessed directly, for experiments that the driver would not make.

use crate::failure::Failure;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardError};
use xdma::memory::Buffer;
use xdma::regs::channel::{
    CONTROL, CONTROL_W1C, CONTROL_W1S, Control, STATUS, STATUS_RC, Status, WRITE_BACK_HI, WRITE_BACK_LO,
};
use xdma::regs::descriptor::{DESCRIPTOR_BYTES, Descriptor, Flags};
use xdma::regs::{Direction, GONE, Target, common_bit, sgdma};
use xdma::unstable::bus::Bar;
use xdma::unstable::card::registers;

/// Size of a page. A block of adjacent descriptors must not cross a page boundary.
const PAGE: u64 = 4096;
/// Size of the buffer for the list: two pages after the first page boundary in it.
const LIST_BYTES: u64 = 3 * PAGE;
/// Size of the data buffer.
const DATA_BYTES: u64 = PAGE;
/// Time limit for an engine to become idle.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a busy engine is watched without sleeping.
const SOON: Duration = Duration::from_millis(1);

/// An idle channel with its own memory. Dropping it restores the reset values of the channel's control registers.
pub struct RawEngine {
    bar: Arc<dyn Bar>,
    pub direction: Direction,
    index: usize,
    /// Descriptors, data and the write-back word. `None` once the engine hung, since it may still use them.
    memory: Option<Memory>,
}

struct Memory {
    list: Buffer,
    /// Offset of the first page boundary in `list`, where the slots begin.
    skip: u64,
    _data: Buffer,
    word: Buffer,
    addresses: [u64; 3],
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: Status,
    pub completed: u32,
    /// The write-back word.
    pub word: u32,
}

impl RawEngine {
    /// Takes over a channel that is not open. `None` if the allocated memory is not contiguous for the card.
    pub fn new(card: &Card, direction: Direction, index: usize) -> Result<Option<Self>> {
        let list = card.allocate(LIST_BYTES, Direction::H2C)?;
        let data = card.allocate(DATA_BYTES, direction)?;
        let word = card.allocate(64, Direction::C2H)?;
        let at = |buffer: &Buffer| buffer.is_contiguous().then(|| buffer.address());
        let (Some(a), Some(b), Some(c)) = (at(&list), at(&data), at(&word)) else { return Ok(None) };
        let skip = a.next_multiple_of(PAGE) - a;
        let memory = Some(Memory { list, skip, _data: data, word, addresses: [a + skip, b, c] });
        Ok(Some(Self { bar: registers(card), direction, index, memory }))
    }

    fn memory(&self) -> Result<&Memory> {
        self.memory.as_ref().context("the engine hung in an earlier experiment")
    }

    /// Returns the device address of a slot of the list.
    pub fn slot(&self, slot: u64) -> Result<u64> {
        Ok(self.memory()?.addresses[0] + slot * DESCRIPTOR_BYTES)
    }

    /// Returns the device address for a stream's metadata.
    pub fn metadata(&self) -> Result<u64> {
        Ok(self.memory()?.addresses[2] + 32)
    }

    fn channel(&self, register: u32) -> u64 {
        u64::from(Target::channel(self.direction).base(self.index) + register)
    }

    fn fetch(&self, register: u32) -> u64 {
        u64::from(Target::sgdma(self.direction).base(self.index) + register)
    }

    fn read_at(&self, address: u64) -> Result<u32> {
        match self.bar.read32(address)? {
            GONE => Err(CardError::Gone { what: "a register" }.into()),
            value => Ok(value),
        }
    }

    /// Reads a register of the channel.
    pub fn read(&self, register: u32) -> Result<u32> {
        self.read_at(self.channel(register))
    }

    /// Writes a register of the channel.
    pub fn write(&self, register: u32, value: u32) -> Result<()> {
        Ok(self.bar.write32(self.channel(register), value)?)
    }

    /// Reads the number of credits.
    pub fn credits(&self) -> Result<u32> {
        self.read_at(self.fetch(sgdma::CREDITS))
    }

    /// Adds credits.
    pub fn add_credits(&self, count: u32) -> Result<()> {
        Ok(self.bar.write32(self.fetch(sgdma::CREDITS), count)?)
    }

    /// Writes the channel's bit to a register that is common to all channels.
    pub fn write_common(&self, register: u32) -> Result<()> {
        let address = Target::SgdmaCommon.base(0) + register;
        Ok(self.bar.write32(address.into(), common_bit(self.direction, self.index))?)
    }

    pub fn status(&self) -> Result<Status> {
        Ok(Status::from_bits_retain(self.read(STATUS)?))
    }

    pub fn is_busy(&self) -> Result<bool> {
        Ok(self.status()?.contains(Status::BUSY))
    }

    /// Returns the write-back word.
    pub fn word(&self) -> Result<u32> {
        let mut word = [0u32];
        self.memory()?.word.read(0, &mut word)?;
        Ok(u32::from_le(word[0]))
    }

    /// Fills a slot with a descriptor that moves `length` bytes between the data buffer and card address `card`. Its successor is
    /// the next slot.
    pub fn fill(&mut self, slot: u64, flags: Flags, next_adjacent: u8, card: u64, length: u32) -> Result<()> {
        let next = self.slot(slot + 1)?;
        let host = self.memory()?.addresses[1];
        let (source, destination) = match self.direction {
            Direction::H2C => (host, card),
            Direction::C2H => (card, host),
        };
        self.put(slot, Descriptor { flags, next_adjacent, length, source, destination, next }.to_words())
    }

    /// Fills a slot with words.
    pub fn put(&mut self, slot: u64, words: [u32; 8]) -> Result<()> {
        let memory = self.memory.as_mut().context("the engine hung in an earlier experiment")?;
        Ok(memory.list.write(memory.skip + slot * DESCRIPTOR_BYTES, &words.map(u32::to_le))?)
    }

    /// Starts the engine at a slot, with these control bits and polled write-back. The engine must be idle.
    pub fn start(&mut self, slot: u64, adjacent: u32, control: Control) -> Result<()> {
        let (list, word) = (self.slot(slot)?, self.memory()?.addresses[2]);
        // The word that the card writes cannot be cleared by the host: a count from the last run is overwritten by the next.
        self.write(WRITE_BACK_LO, word as u32)?;
        self.write(WRITE_BACK_HI, (word >> 32) as u32)?;
        for (register, value) in [
            (sgdma::DESCRIPTOR_LO, list as u32),
            (sgdma::DESCRIPTOR_HI, (list >> 32) as u32),
            (sgdma::DESCRIPTOR_ADJACENT, adjacent),
        ] {
            self.bar.write32(self.fetch(register), value)?;
        }
        self.write(CONTROL, (control | Control::POLL_WRITE_BACK).bits())?;
        self.write(CONTROL_W1S, Control::RUN.bits())
    }

    /// Waits until the engine is idle. Returns whether it became idle in time.
    pub fn wait_idle(&self, limit: Duration) -> Result<bool> {
        let begin = Instant::now();
        while self.is_busy()? {
            if begin.elapsed() > limit {
                return Ok(false);
            }
            // An engine that lags for long need not be watched closely.
            match begin.elapsed() > SOON {
                true => std::thread::sleep(SOON),
                false => std::thread::yield_now(),
            }
        }
        Ok(true)
    }

    /// Runs a list from a slot until the engine is idle, and stops it.
    pub fn run(&mut self, slot: u64, adjacent: u32, control: Control) -> Result<Ended> {
        self.start(slot, adjacent, control)?;
        self.wait_idle(LIMIT)?;
        // An engine that is busy is stopped by the next call, or else fails there.
        let ended = self.ended()?;
        self.stop()?;
        Ok(ended)
    }

    /// Returns the state of the registers and the write-back word.
    pub fn ended(&self) -> Result<Ended> {
        let completed = self.read(xdma::regs::channel::COMPLETED_COUNT)?;
        Ok(Ended { status: self.status()?, completed, word: self.word()? })
    }

    /// Clears Run and the sticky status bits.
    pub fn stop(&mut self) -> Result<()> {
        self.write(CONTROL_W1C, Control::RUN.bits())?;
        if !self.wait_idle(LIMIT)? {
            // The engine may still use the memory.
            std::mem::forget(self.memory.take());
            let (direction, index) = (self.direction, self.index);
            return Err(Failure::EngineBusy { direction, index }.into());
        }
        self.read(STATUS_RC).map(drop)
    }

    fn restore(&mut self) -> Result<()> {
        self.stop()?;
        for register in [CONTROL, WRITE_BACK_LO, WRITE_BACK_HI] {
            self.write(register, 0)?;
        }
        for register in [sgdma::DESCRIPTOR_LO, sgdma::DESCRIPTOR_HI, sgdma::DESCRIPTOR_ADJACENT] {
            self.bar.write32(self.fetch(register), 0)?;
        }
        self.write_common(sgdma::CREDIT_ENABLE_W1C)?;
        self.write_common(sgdma::FETCH_HALT_W1C)
    }
}

impl Drop for RawEngine {
    fn drop(&mut self) {
        if self.memory.is_some()
            && let Err(error) = self.restore()
        {
            tracing::warn!(%error, "could not restore the channel's registers");
            // The engine may still use the memory.
            std::mem::forget(self.memory.take());
        }
        // The last write-back may come after the engine was seen idle. Closing the card ends the card's access to this memory.
        std::mem::forget(self.memory.take().map(|memory| memory.word));
    }
}
