//! Experiments that determine behaviour that no manual specifies. Each leaves the channel idle.

use super::engine::Ended;
use super::observe::alignment;
use super::{RawEngine, SCRATCH_BYTES};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::regs::Direction;
use xdma::regs::channel::{ALIGNMENTS, Alignments, CONTROL, Control, Status, WriteBack};
use xdma::regs::descriptor::Flags;
use xdma::regs::sgdma::{CREDIT_ENABLE_W1C, CREDIT_ENABLE_W1S, FETCH_HALT_W1C, FETCH_HALT_W1S};
use xdma_emulator::CardFile;
use xdma_emulator::card_file::{Alignment, Setting};

/// Number of times that an experiment whose result depends on chance is repeated.
const ROUNDS: u32 = 24;
/// Flags of a list's last descriptor.
const END: Flags = Flags::STOP.union(Flags::COMPLETED);
/// Number of descriptors in a page.
const PAGE_SLOTS: u64 = 4096 / 32;
/// A lag of BUSY that is measured once only, as it makes every experiment slow.
const LONG_LAG: Duration = Duration::from_millis(10);
/// How long a stream must send nothing to count as quiet.
const QUIET: Duration = Duration::from_millis(20);

/// Checks that an address can be that of the scratch memory.
pub fn check_scratch(scratch: u64) -> Result<()> {
    if scratch.checked_add(SCRATCH_BYTES).is_some() && scratch.is_multiple_of(4096) {
        return Ok(());
    }
    let text = format!("--scratch {scratch:#x}: use a multiple of 4096, followed by 64 KiB of memory");
    Err(Failure::Usage(text).into())
}

/// Experiments with the first channels of a card.
pub struct Experiments<'a> {
    /// The address of card memory that they overwrite, if the channels are memory-mapped.
    pub scratch: u64,
    /// Whether what arrives on the first C2H stream may be lost, and the function may be reset.
    pub streams: bool,
    pub interrupt: &'a Interrupt,
}

impl Experiments<'_> {
    /// Determines what `file` leaves open, as far as the experiments can.
    pub fn run(&self, card: &Card, file: &mut CardFile) -> Result<()> {
        let direction = if file.channels.h2c > 0 { Direction::H2C } else { Direction::C2H };
        if let Some(mut engine) = RawEngine::new(card, direction, 0)? {
            self.probe_registers(&mut engine, file)?;
            if !file.is_stream() {
                self.probe_transfers(&mut engine, file)?;
            }
        }
        if self.streams && file.is_stream() && file.channels.c2h > 0 && file.function.reset {
            probe_streams(card, file)?;
        }
        Ok(())
    }

    /// Experiments that move no data.
    fn probe_registers(&self, engine: &mut RawEngine, file: &mut CardFile) -> Result<()> {
        if !file.is_stream() {
            file.channels.fixed_address = fixed_address(engine)?;
        }
        self.interrupt.check()?;
        let credits = counts_credits(engine)?;
        file.channels.credits = credits.into();
        if credits {
            file.switches.busy_without_credits = busy_without_credits(engine)?.into();
        }
        self.interrupt.check()?;
        file.switches.error_write_back = error_write_back(engine)?.into();
        Ok(())
    }

    /// Experiments that move a few bytes between host memory and the scratch memory.
    fn probe_transfers(&self, engine: &mut RawEngine, file: &mut CardFile) -> Result<()> {
        let scratch = self.scratch;
        check_memory(engine, scratch)?;
        let switches = &mut file.switches;
        switches.stop_clears_run = stop_clears_run(engine, scratch)?.into();
        self.interrupt.check()?;
        let lag = busy_lag(engine, scratch)?;
        switches.busy_lag_us = (lag.as_micros() as u32).into();
        self.interrupt.check()?;
        let rounds = if lag > LONG_LAG { 1 } else { ROUNDS };
        switches.aligned_fetch = aligned_fetch(engine, scratch, rounds)?.into();
        self.interrupt.check()?;
        let fixed = file.channels.fixed_address.or(Alignment { address: 1, length: 1 });
        if fixed.length > 1 {
            switches.unlogged_errors_stop = unlogged_errors_stop(engine, scratch, fixed)?.into();
        }
        Ok(())
    }
}

fn fixed_address(engine: &RawEngine) -> Result<Setting<Alignment>> {
    engine.write(CONTROL, Control::NON_INCREMENTING.bits())?;
    let fixed = Alignments(engine.read(ALIGNMENTS)?);
    engine.write(CONTROL, 0)?;
    let usual = Alignments(engine.read(ALIGNMENTS)?);
    // A register that stays the same says nothing about the mode.
    Ok((fixed != usual).then(|| alignment(fixed)).into())
}

fn counts_credits(engine: &mut RawEngine) -> Result<bool> {
    engine.write_common(FETCH_HALT_W1S)?;
    engine.write_common(CREDIT_ENABLE_W1S)?;
    engine.start(0, 0, Control::empty())?;
    engine.add_credits(1)?;
    let seen = engine.credits()?;
    engine.stop()?;
    engine.write_common(CREDIT_ENABLE_W1C)?;
    engine.write_common(FETCH_HALT_W1C)?;
    Ok(seen == 1)
}

fn busy_without_credits(engine: &mut RawEngine) -> Result<bool> {
    engine.write_common(CREDIT_ENABLE_W1S)?;
    engine.start(0, 0, Control::empty())?;
    let busy = engine.is_busy()?;
    engine.stop()?;
    engine.write_common(CREDIT_ENABLE_W1C)?;
    Ok(busy)
}

fn error_write_back(engine: &mut RawEngine) -> Result<bool> {
    engine.put(0, [0; 8])?;
    engine.run(0, 0, Control::all_ie(engine.direction))?;
    // The write-back may come after BUSY has fallen.
    let begin = Instant::now();
    while !WriteBack(engine.word()?).is_error() {
        if begin.elapsed() > QUIET {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// Checks that memory answers at the first and the last address that the experiments use.
fn check_memory(engine: &mut RawEngine, scratch: u64) -> Result<()> {
    for address in [scratch, scratch + SCRATCH_BYTES - 64] {
        engine.fill(0, END, 0, address, 64)?;
        let Ended { status, completed, .. } = engine.run(0, 0, Control::all_ie(engine.direction))?;
        if let [cause, ..] = status.explain(engine.direction)[..] {
            let text = format!(
                "the experiments need 64 KiB of memory at --scratch {scratch:#x}, but at {address:#x}: {cause}"
            );
            return Err(Failure::Usage(text).into());
        }
        if completed != 1 {
            bail!("a transfer of 64 bytes at card address {address:#x} did not finish within a second");
        }
    }
    Ok(())
}

fn stop_clears_run(engine: &mut RawEngine, scratch: u64) -> Result<bool> {
    engine.fill(0, END, 0, scratch, 64)?;
    engine.start(0, 0, Control::empty())?;
    if !engine.wait_idle(Duration::from_secs(1))? {
        bail!("a transfer of 64 bytes at card address {scratch:#x} did not finish within a second");
    }
    let run = Control::from_bits_retain(engine.read(CONTROL)?).contains(Control::RUN);
    engine.stop()?;
    Ok(!run)
}

/// Returns the longest time, over several runs, for which BUSY outlasted the write-back.
fn busy_lag(engine: &mut RawEngine, scratch: u64) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        // The count tells this run's write-back from the one before.
        let descriptors = if WriteBack(engine.word()?).count() == 1 { 2 } else { 1 };
        engine.fill(0, if descriptors == 1 { END } else { Flags::empty() }, 0, scratch, 64)?;
        engine.fill(1, END, 0, scratch, 64)?;
        engine.start(0, 0, Control::empty())?;
        let begin = Instant::now();
        while WriteBack(engine.word()?).count() != descriptors && begin.elapsed() < Duration::from_secs(1) {
            std::hint::spin_loop();
        }
        let seen = Instant::now();
        if engine.is_busy()? {
            engine.wait_idle(Duration::from_secs(1))?;
            longest = longest.max(seen.elapsed());
        }
        engine.stop()?;
        if longest > LONG_LAG {
            break;
        }
    }
    Ok(longest)
}

/// The second descriptor of a block lies behind a page boundary. An engine that wraps inside the page fetches the slot at the
/// beginning of the page instead, which has no magic number.
fn aligned_fetch(engine: &mut RawEngine, scratch: u64, rounds: u32) -> Result<bool> {
    engine.put(0, [0; 8])?;
    engine.fill(PAGE_SLOTS - 1, Flags::empty(), 0, scratch, 64)?;
    engine.fill(PAGE_SLOTS, END, 0, scratch, 64)?;
    for _ in 0..rounds {
        let ended = engine.run(PAGE_SLOTS - 1, 1, Control::all_ie(engine.direction))?;
        if ended.status.contains(Status::MAGIC_STOPPED) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn unlogged_errors_stop(engine: &mut RawEngine, scratch: u64, fixed: Alignment) -> Result<bool> {
    engine.fill(0, Flags::empty(), 0, scratch, u32::from(fixed.length) + 1)?;
    engine.fill(1, END, 0, scratch, fixed.length.into())?;
    let ended = engine.run(0, 0, Control::NON_INCREMENTING)?;
    Ok(ended.completed < 2)
}

/// Experiments with a C2H stream that is quiet. The function has a reset, which ends a transfer that does not end by itself.
fn probe_streams(card: &Card, file: &mut CardFile) -> Result<()> {
    let Some(mut engine) = RawEngine::new(card, Direction::C2H, 0)? else { return Ok(()) };
    let beat = file.beat() as u32;
    if engine.is_busy()? {
        // An earlier receiver left it waiting for the stream.
        card.reset()?;
        // Fetch stays halted after a reset until a channel is recovered.
        engine.write_common(FETCH_HALT_W1C)?;
    }
    engine.fill(0, END, 0, engine.metadata()?, 4096)?;
    engine.start(0, 0, Control::all_ie(Direction::C2H))?;
    std::thread::sleep(QUIET);
    if engine.ended()?.completed > 0 || !engine.is_busy()? {
        // Data arrived: this stream is not quiet.
        return engine.stop();
    }
    let ends = engine.stop().is_ok();
    file.switches.stop_ends_idle_stream = ends.into();
    if !ends {
        card.reset()?;
        return Ok(());
    }
    if beat < 64 {
        engine.fill(0, END, 0, engine.metadata()?, beat)?;
        engine.start(0, 0, Control::all_ie(Direction::C2H))?;
        std::thread::sleep(QUIET);
        let refused = engine.status()?.contains(Status::INVALID_LENGTH);
        engine.stop()?;
        file.switches.narrow_stream_buffers = (!refused).into();
    }
    Ok(())
}
