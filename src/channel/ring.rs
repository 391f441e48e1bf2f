//! The two kinds of descriptor ring, behind one interface.
//!
//! | | chain | credits |
//! |---|---|---|
//! | list | ends with Stop | closed |
//! | Run | set for each job | stays set while the list stays the same |
//! | doorbell | [`Registers::start`] | a number of descriptors, written to the credit register |
//! | the engine has | one job at a time | up to 1,023 descriptors |
//! | completion count | of one job: its full length, or zero | since Run was set, modulo 2^24 |

use super::engine::{Engine, Progress};
use super::error::Fail;
use super::options::Ring;
use super::registers::{Mapped, Registers};
use super::start::Start;
use crate::descriptor::Flags;
use crate::memory::order;
use crate::regs::channel::WriteBack;
use crate::regs::sgdma::{CREDIT_ENABLE_W1C, CREDIT_ENABLE_W1S, MAX_CREDITS};

/// The operations in which the rings differ.
pub(super) trait RingOps {
    /// Flags of a transfer's last descriptor.
    const END: Flags;

    /// Whether the engine has one job at a time.
    const ONE_JOB: bool;

    /// Prepares a stopped engine for this ring.
    fn set_up(engine: &mut Engine) -> Result<(), Fail>;

    /// Returns whether the engine can be given another job, as far as `progress` shows.
    fn has_room(progress: &Progress) -> bool;

    /// Returns whether `count` descriptors of `list` can be posted now, all at the same time, if the engine [has
    /// room](Self::has_room). This is nearly always the case.
    fn is_ready(registers: Mapped<'_>, progress: &Progress, list: u64, count: u64) -> bool;

    /// Posts `count` descriptors from `start` on and rings the doorbell. The engine is [ready](Self::is_ready) for them.
    fn post_now(registers: Mapped<'_>, progress: &mut Progress, start: Start, count: u64);

    /// Returns how many of the `wanted` descriptors from `start` on can be posted now.
    fn available(engine: &mut Engine, start: Start, wanted: u64) -> Result<u64, Fail>;

    /// Posts `count` descriptors from `start` on and rings the doorbell. The engine can accept that many: see [`available`](Self::available).
    fn post(registers: &Registers, progress: &mut Progress, start: Start, count: u64) -> Result<(), Fail>;

    /// Returns the number of new completions that a write-back reports; `None` if it is not of the current run.
    fn written_back(progress: &Progress, word: WriteBack) -> Option<u64>;

    /// Returns the number of new completions if the engine's count register has the value `count`; `None` if this is not a count of the
    /// current run.
    fn counted(progress: &Progress, count: u32) -> Option<u64>;

    /// Records the count of a write-back. Returns whether it belongs to the current run.
    #[inline(always)]
    fn record_write_back(progress: &mut Progress, word: WriteBack) -> bool {
        order::after_completion();
        match Self::written_back(progress, word) {
            Some(new) => {
                progress.complete(new);
                progress.word.mark_known(word);
                true
            }
            None => false,
        }
    }

    /// Returns how many of the posted descriptors precede the engine's count of the current run.
    fn count_base(progress: &Progress) -> u64;

    /// Returns whether the engine's registers also report that all posted descriptors are completed.
    fn is_settled(engine: &Engine) -> Result<bool, Fail>;
}

/// Lists that end with Stop.
pub(super) struct Chain;

impl RingOps for Chain {
    const END: Flags = Flags::COMPLETED.union(Flags::STOP);
    const ONE_JOB: bool = true;

    fn set_up(engine: &mut Engine) -> Result<(), Fail> {
        engine.registers.write_common(CREDIT_ENABLE_W1C)
    }

    #[inline(always)]
    fn has_room(progress: &Progress) -> bool {
        progress.outstanding() == 0
    }

    #[inline(always)]
    fn is_ready(registers: Mapped<'_>, progress: &Progress, _: u64, _: u64) -> bool {
        !progress.check_idle || registers.is_idle()
    }

    #[inline(always)]
    fn post_now(registers: Mapped<'_>, progress: &mut Progress, start: Start, count: u64) {
        let (reads, word) = (progress.check_idle.into(), progress.start(count));
        registers.start(word, start.first, start.adjacent, reads);
    }

    fn available(engine: &mut Engine, _: Start, wanted: u64) -> Result<u64, Fail> {
        // The engine sends the write-back before it becomes idle, so the write-back may be seen first. The next poll tries
        // again.
        let Engine { registers, progress, .. } = engine;
        let is_busy = progress.outstanding() > 0 || progress.check_idle && registers.is_busy()?;
        Ok(if is_busy { 0 } else { wanted })
    }

    fn post(registers: &Registers, progress: &mut Progress, start: Start, count: u64) -> Result<(), Fail> {
        let word = progress.start(count);
        registers.start(word, start.first, start.adjacent)
    }

    #[inline(always)]
    fn written_back(progress: &Progress, word: WriteBack) -> Option<u64> {
        Self::counted(progress, word.count())
    }

    #[inline(always)]
    fn counted(progress: &Progress, count: u32) -> Option<u64> {
        let outstanding = progress.outstanding();
        (u64::from(count) == outstanding).then_some(outstanding)
    }

    /// The engine counts from zero in each run.
    fn count_base(progress: &Progress) -> u64 {
        progress.completed()
    }

    fn is_settled(engine: &Engine) -> Result<bool, Fail> {
        Ok(!engine.registers.is_busy()?)
    }
}

/// Closed lists.
pub(super) struct Credits;

impl RingOps for Credits {
    const END: Flags = Flags::COMPLETED;
    const ONE_JOB: bool = false;

    fn set_up(engine: &mut Engine) -> Result<(), Fail> {
        engine.registers.write_common(CREDIT_ENABLE_W1S)?;
        set_run(engine, engine.slots.next())
    }

    #[inline(always)]
    fn has_room(_: &Progress) -> bool {
        true
    }

    #[inline(always)]
    fn is_ready(_: Mapped<'_>, progress: &Progress, list: u64, count: u64) -> bool {
        list == progress.list && progress.outstanding() + count <= MAX_CREDITS.into()
    }

    #[inline(always)]
    fn post_now(registers: Mapped<'_>, progress: &mut Progress, _: Start, count: u64) {
        progress.post(count);
        order::before_doorbell();
        registers.write_credits(count as u32);
    }

    fn available(engine: &mut Engine, start: Start, wanted: u64) -> Result<u64, Fail> {
        let outstanding = engine.progress.outstanding();
        // A different list can start only after the engine has finished the current one.
        if start.list != engine.progress.list {
            if outstanding > 0 {
                return Ok(0);
            }
            engine.registers.clear_run()?;
            if engine.registers.is_busy()? {
                engine.progress.list = 0;
                return Ok(0);
            }
            set_run(engine, start)?;
        }
        Ok(wanted.min(u64::from(MAX_CREDITS) - outstanding))
    }

    fn post(registers: &Registers, progress: &mut Progress, _: Start, count: u64) -> Result<(), Fail> {
        progress.post(count);
        order::before_doorbell();
        registers.write_credits(count as u32)
    }

    #[inline(always)]
    fn written_back(progress: &Progress, word: WriteBack) -> Option<u64> {
        let new = word.count().wrapping_sub(progress.word.known().count()) & WriteBack::COUNT_MASK;
        (u64::from(new) <= progress.outstanding()).then_some(new.into())
    }

    fn counted(progress: &Progress, count: u32) -> Option<u64> {
        let new = count.wrapping_sub((progress.completed() - progress.base()) as u32);
        (u64::from(new) <= progress.outstanding()).then_some(new.into())
    }

    /// The engine counts from zero since Run was set, as the driver does.
    fn count_base(progress: &Progress) -> u64 {
        progress.base()
    }

    fn is_settled(engine: &Engine) -> Result<bool, Fail> {
        let Engine { registers, progress, .. } = engine;
        // A stopped engine keeps its count until Run is set.
        if progress.list == 0 {
            return Ok(!registers.is_busy()?);
        }
        Ok(registers.completed()? == (progress.posted() - progress.base()) as u32)
    }
}

/// Sets Run on a closed list. The engine is idle.
fn set_run(engine: &mut Engine, start: Start) -> Result<(), Fail> {
    engine.count_start();
    engine.progress.restart();
    let word = engine.progress.start(0);
    engine.registers.start(word, start.first, 0)?;
    engine.progress.list = start.list;
    Ok(())
}

/// Calls a function of [`RingOps`] for a ring.
macro_rules! dispatch {
    ($ring:expr, $function:ident($($argument:expr),*)) => {
        match $ring {
            Ring::Chain => Chain::$function($($argument),*),
            Ring::Credits => Credits::$function($($argument),*),
        }
    };
}

impl Engine {
    /// Sets up a stopped engine for the requested ring, or for the chain ring if it has no credits. Returns whether the request
    /// was met.
    pub fn set_up(&mut self, wanted: Option<Ring>) -> Result<bool, Fail> {
        self.ring = match wanted {
            Some(Ring::Chain) => Ring::Chain,
            _ if self.has_credits()? => Ring::Credits,
            _ => Ring::Chain,
        };
        self.slots.set_end(match self.ring {
            Ring::Chain => Chain::END,
            Ring::Credits => Credits::END,
        });
        dispatch!(self.ring, set_up(self))?;
        Ok(wanted.is_none_or(|wanted| wanted == self.ring))
    }

    /// Returns how many of the `wanted` descriptors from `start` on can be posted now.
    pub fn available(&mut self, start: Start, wanted: u64) -> Result<u64, Fail> {
        dispatch!(self.ring, available(self, start, wanted))
    }

    /// Posts `count` descriptors from `start` on and rings the doorbell. That many are [available](Self::available).
    pub fn post(&mut self, start: Start, count: u64) -> Result<(), Fail> {
        dispatch!(self.ring, post(&self.registers, &mut self.progress, start, count))
    }

    /// Records the count of a write-back. Returns whether it belongs to the current run.
    pub fn record_write_back(&mut self, word: WriteBack) -> bool {
        dispatch!(self.ring, record_write_back(&mut self.progress, word))
    }

    /// Records the value of the count register, read while the engine was idle. As with write-backs, a count from another run, from
    /// before a reset (0), or further ahead than the outstanding descriptors completes nothing.
    pub fn record_count(&mut self, count: u32) {
        // An engine that was still busy may have ignored the start of this chain, and shows the count of the one before.
        if self.ring == Ring::Chain && !self.progress.check_idle {
            return;
        }
        order::after_completion();
        if let Some(new) = dispatch!(self.ring, counted(&self.progress, count)) {
            self.progress.complete(new);
            self.progress.word.mark_known(WriteBack(count & WriteBack::COUNT_MASK));
        }
    }

    /// Returns the engine's count once it has completed the `end`-th posted descriptor.
    pub fn count_at(&self, end: u64) -> u64 {
        end - dispatch!(self.ring, count_base(&self.progress))
    }

    /// Returns whether the engine's registers also report that all posted descriptors are completed.
    pub fn is_settled(&self) -> Result<bool, Fail> {
        dispatch!(self.ring, is_settled(self))
    }
}
