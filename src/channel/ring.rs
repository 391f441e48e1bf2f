//! The two ways of giving an engine descriptors. Both have one interface and pass the same tests.
//!
//! | | chain | credits |
//! |---|---|---|
//! | list | ends in Stop | closed |
//! | Run | set for each job | stays set as long as the list is the same |
//! | doorbell | [`Registers::start`] | a number of descriptors, to the credit register |
//! | the engine has | one job at a time | up to 1,023 descriptors |
//! | count | of one job: all of it, or nothing | of all since Run was set, modulo 2^24 |

use super::engine::{Engine, Progress};
use super::error::Fail;
use super::options::{ChannelOptions, Ring};
use super::registers::{Mapped, Registers};
use super::start::Start;
use crate::descriptor::Flags;
use crate::memory::order;
use crate::regs::channel::WriteBack;
use crate::regs::sgdma::{CREDIT_ENABLE_W1C, CREDIT_ENABLE_W1S, MAX_CREDITS};

/// What differs between the rings.
pub(super) trait Feed {
    /// Flags of the last descriptor of a transfer.
    const END: Flags;

    /// Whether the engine has one job at a time.
    const ONE_JOB: bool;

    /// Makes a stopped engine ready for this ring.
    fn set_up(engine: &mut Engine) -> Result<(), Fail>;

    /// Whether the engine can be given `count` descriptors of a list now, all at once: nearly always.
    fn is_ready(registers: Mapped<'_>, progress: &Progress, list: u64, count: u32) -> bool;

    /// Gives the engine `count` descriptors from `start` on, for which it is [ready](Self::is_ready): the doorbell.
    fn give_now(registers: Mapped<'_>, progress: &mut Progress, start: Start, count: u32);

    /// How many of the `wanted` descriptors from `start` on the engine can be given now.
    fn room(engine: &mut Engine, start: Start, wanted: u32) -> Result<u32, Fail>;

    /// Gives the engine `count` descriptors from `start` on, for which there is [room](Self::room).
    fn give(registers: &Registers, progress: &mut Progress, start: Start, count: u32) -> Result<(), Fail>;

    /// How many descriptors are completed that were not before, when the lower bits of the engine's count are `count`. `None` if that is
    /// no count of this run.
    fn newly(progress: &Progress, count: u32, bits: u32) -> Option<u64>;

    /// Takes note of what the engine wrote back; whether it is a count of this run.
    #[inline(always)]
    fn note_written(progress: &mut Progress, word: WriteBack) -> bool {
        order::after_completion();
        match Self::newly(progress, word.count(), WriteBack::COUNT_MASK) {
            Some(new) => {
                progress.complete(new);
                progress.report.note_known(word);
                true
            }
            None => false,
        }
    }

    /// How many descriptors it was given that its count leaves out.
    fn left_out(progress: &Progress) -> u64;

    /// Whether the engine's own registers say that it is done with all it was given.
    fn is_settled(engine: &Engine) -> Result<bool, Fail>;
}

/// Lists that end in Stop.
pub(super) struct Chain;

impl Feed for Chain {
    const END: Flags = Flags::COMPLETED.union(Flags::STOP);
    const ONE_JOB: bool = true;

    fn set_up(engine: &mut Engine) -> Result<(), Fail> {
        engine.registers.write_common(CREDIT_ENABLE_W1C)
    }

    #[inline(always)]
    fn is_ready(registers: Mapped<'_>, progress: &Progress, _: u64, _: u32) -> bool {
        progress.outstanding() == 0 && (!progress.check_idle || registers.is_idle())
    }

    #[inline(always)]
    fn give_now(registers: Mapped<'_>, progress: &mut Progress, start: Start, count: u32) {
        let word = progress.begin(count);
        registers.start(word, start.first, start.adjacent);
    }

    fn room(engine: &mut Engine, _: Start, wanted: u32) -> Result<u32, Fail> {
        // The write-back is sent before the engine is idle: it may be seen first. The next poll tries again.
        let Engine { registers, progress, .. } = engine;
        let is_busy = progress.outstanding() > 0 || progress.check_idle && registers.is_busy()?;
        Ok(if is_busy { 0 } else { wanted })
    }

    fn give(registers: &Registers, progress: &mut Progress, start: Start, count: u32) -> Result<(), Fail> {
        let word = progress.begin(count);
        registers.start(word, start.first, start.adjacent)
    }

    #[inline(always)]
    fn newly(progress: &Progress, count: u32, _: u32) -> Option<u64> {
        let outstanding = progress.outstanding();
        (u64::from(count) == outstanding).then_some(outstanding)
    }

    /// It counts from zero in each run.
    fn left_out(progress: &Progress) -> u64 {
        progress.completed()
    }

    fn is_settled(engine: &Engine) -> Result<bool, Fail> {
        Ok(!engine.registers.is_busy()?)
    }
}

/// Closed lists.
pub(super) struct Credits;

impl Feed for Credits {
    const END: Flags = Flags::COMPLETED;
    const ONE_JOB: bool = false;

    fn set_up(engine: &mut Engine) -> Result<(), Fail> {
        engine.registers.write_common(CREDIT_ENABLE_W1S)?;
        run_on(engine, engine.slots.next())
    }

    #[inline(always)]
    fn is_ready(_: Mapped<'_>, progress: &Progress, list: u64, count: u32) -> bool {
        list == progress.list && progress.outstanding() + u64::from(count) <= MAX_CREDITS.into()
    }

    #[inline(always)]
    fn give_now(registers: Mapped<'_>, progress: &mut Progress, _: Start, count: u32) {
        progress.give(count);
        order::before_doorbell();
        registers.write_credits(count);
    }

    fn room(engine: &mut Engine, start: Start, wanted: u32) -> Result<u32, Fail> {
        let outstanding = engine.progress.outstanding();
        // Another list can only be started when the engine has finished the one before.
        if start.list != engine.progress.list {
            if outstanding > 0 {
                return Ok(0);
            }
            engine.registers.clear_run()?;
            if engine.registers.is_busy()? {
                engine.progress.list = 0;
                return Ok(0);
            }
            run_on(engine, start)?;
        }
        Ok(wanted.min(MAX_CREDITS - outstanding as u32))
    }

    fn give(registers: &Registers, progress: &mut Progress, _: Start, count: u32) -> Result<(), Fail> {
        progress.give(count);
        order::before_doorbell();
        registers.write_credits(count)
    }

    #[inline(always)]
    fn newly(progress: &Progress, count: u32, bits: u32) -> Option<u64> {
        let new = u64::from(count.wrapping_sub(progress.completed() as u32) & bits);
        (new <= progress.outstanding()).then_some(new)
    }

    /// It counts from zero since Run was set.
    fn left_out(_: &Progress) -> u64 {
        0
    }

    fn is_settled(engine: &Engine) -> Result<bool, Fail> {
        Ok(engine.registers.completed()? == engine.progress.given() as u32)
    }
}

/// Sets Run on a closed list; the engine is idle.
fn run_on(engine: &mut Engine, start: Start) -> Result<(), Fail> {
    engine.count_start();
    engine.progress.restart();
    let word = engine.progress.begin(0);
    engine.registers.start(word, start.first, 0)?;
    engine.progress.list = start.list;
    Ok(())
}

/// Calls a function of [`Feed`] for a ring.
macro_rules! of_ring {
    ($ring:expr, $function:ident($($argument:expr),*)) => {
        match $ring {
            Ring::Chain => Chain::$function($($argument),*),
            Ring::Credits => Credits::$function($($argument),*),
        }
    };
}

impl Engine {
    /// Makes it, stopped, ready for the ring that is wished for, or for the best that it has.
    pub fn set_up(&mut self, options: &ChannelOptions) -> Result<(), Fail> {
        self.ring = match options.ring {
            Some(Ring::Chain) => Ring::Chain,
            wish => match (self.has_credits()?, wish) {
                (true, _) => Ring::Credits,
                (false, None) => Ring::Chain,
                (false, Some(_)) => return Err(self.registers.no_credits().into()),
            },
        };
        self.slots.set_end(match self.ring {
            Ring::Chain => Chain::END,
            Ring::Credits => Credits::END,
        });
        of_ring!(self.ring, set_up(self))
    }

    /// How many of the `wanted` descriptors from `start` on it can be given now.
    pub fn room(&mut self, start: Start, wanted: u32) -> Result<u32, Fail> {
        of_ring!(self.ring, room(self, start, wanted))
    }

    /// Gives it `count` descriptors from `start` on, for which there is [room](Self::room): the doorbell.
    pub fn give(&mut self, start: Start, count: u32) -> Result<(), Fail> {
        of_ring!(self.ring, give(&self.registers, &mut self.progress, start, count))
    }

    /// Takes note of what it wrote back; whether it is a count of this run.
    pub fn note_written(&mut self, word: WriteBack) -> bool {
        of_ring!(self.ring, note_written(&mut self.progress, word))
    }

    /// Takes note of a count that its register had while it was idle. The same arithmetic as with a write-back: a count of another
    /// run, of before a reset (0), or one that jumped further than what is outstanding, ends nothing.
    pub fn note_read(&mut self, count: u32) {
        order::after_completion();
        let newly = of_ring!(self.ring, newly(&self.progress, count, u32::MAX));
        self.progress.complete(newly.unwrap_or(0));
    }

    /// Its count when it has completed the `end`-th descriptor that it was given.
    pub fn count_at(&self, end: u64) -> u64 {
        end - of_ring!(self.ring, left_out(&self.progress))
    }

    /// Whether its own registers say that it is done with all it was given.
    pub fn is_settled(&self) -> Result<bool, Fail> {
        of_ring!(self.ring, is_settled(self))
    }
}
