//! The step that tests interrupts.

use super::path::Path;
use super::report::Finding;
use super::steps::{LATE, ROUNDS, Settings, each_path, passed, pattern};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};
use xdma::card::{Card, Interrupts, Source};
use xdma::channel::{ChannelOptions, Wait};
use xdma::regs::Direction;
use xdma_emulator::CardFile;

pub fn interrupts(card: &Card, file: &CardFile, settings: &Settings) -> Result<Finding> {
    let mode = card.report()?.interrupts;
    if mode == Interrupts::None {
        return Ok(Finding::Skipped("the function has no interrupts".into()));
    }
    let options = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    each_path(card, file, settings, options, |path| {
        // A busy host is late once in a while. A card that loses interrupts does so again.
        if wait_often(card, path)?.is_some() {
            wait_often(card, path)?.map_or(Ok(()), |lost| bail!(lost))?;
        }
        Ok(())
    })?;
    if mode == Interrupts::PerSource && !file.is_stream() {
        for channel in &card.report()?.channels {
            count_interrupts(card, channel.direction, channel.index, settings)
                .with_context(|| format!("{} channel {}", channel.direction, channel.index))?;
        }
    }
    passed(format!("{mode}; {ROUNDS} waits on each channel"))
}

/// Waits for transfers by interrupts. Returns a text if more than a quarter of the sleeps ended without their interrupt.
fn wait_often(card: &Card, path: &mut Path) -> Result<Option<String>> {
    let before = path.stats();
    (0..ROUNDS).try_for_each(|round| path.round_trip(card, &pattern(256, round as u64), 0, 0))?;
    let after = path.stats();
    let lost = before.iter().zip(&after).find_map(|((direction, before), (_, after))| {
        let (missed, sleeps) = (after.missed - before.missed, after.sleeps - before.sleeps);
        (4 * missed > sleeps).then(|| {
            format!(
                "{direction}: {missed} of {sleeps} sleeps ended without their interrupt, although the work had finished"
            )
        })
    });
    Ok(lost)
}

/// Checks that one completion causes one interrupt, if each source has its own vector.
fn count_interrupts(card: &Card, direction: Direction, index: usize, settings: &Settings) -> Result<()> {
    let options = ChannelOptions { interrupt: true, ..ChannelOptions::default() };
    let mut channel = card.channel(direction, index, options)?;
    let interrupt = card.interrupt(Source::Channel(direction, index))?;
    let buffer = card.allocate(64, direction)?;
    for _ in 0..3 {
        settings.interrupt.check()?;
        channel.rearm_interrupt()?;
        interrupt.take();
        let ticket = channel.submit(&buffer, 0..64, settings.scratch())?;
        let begin = Instant::now();
        let mut fired = interrupt.wait(Duration::from_secs(1))?;
        let took = begin.elapsed();
        channel.wait(ticket, Duration::from_secs(1))?;
        std::thread::sleep(Duration::from_millis(2));
        fired += interrupt.take();
        match fired {
            0 => bail!("no interrupt arrived within a second of a transfer"),
            1 if took > LATE => bail!("an interrupt arrived {took:?} after a transfer was started"),
            1 => {}
            more => bail!("one transfer caused {more} interrupts"),
        }
    }
    Ok(())
}
