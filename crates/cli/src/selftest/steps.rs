//! The steps of the self-test. A step fails if its function returns an error.

use super::Step;
use super::difference::{differences, identity_of};
use super::interrupts::interrupts;
use super::load::AllChannels;
use super::path::Path;
use super::report::Finding;
use crate::interrupt::Interrupt;
use crate::survey::{Ended, Experiments, RawEngine, SCRATCH_BYTES};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::channel::{ChannelOptions, OpenError, Ring};
use xdma::regs::Direction;
use xdma::regs::channel::{
    COMPLETED_COUNT, Control, IRQ_ENABLE, IRQ_ENABLE_W1C, IRQ_ENABLE_W1S, Status, WRITE_BACK_HI,
    WRITE_BACK_LO, WriteBack,
};
use xdma::regs::descriptor::Flags;
use xdma_emulator::CardFile;

/// Flags of a list's last descriptor.
const END: Flags = Flags::STOP.union(Flags::COMPLETED);
/// How late a write-back or an interrupt may be.
pub const LATE: Duration = Duration::from_millis(100);
/// Number of round trips in the steps that repeat something.
pub const ROUNDS: usize = 20;

/// What the user requested.
pub struct Settings {
    pub scratch: Option<u64>,
    pub loopback: bool,
    pub reset: bool,
    pub load: Duration,
    /// The description that the card should have.
    pub expected: Option<CardFile>,
    pub interrupt: Interrupt,
}

impl Settings {
    /// Returns the reason to skip a step that moves data, if the user has not allowed it.
    fn no_data(&self, file: &CardFile) -> Option<Finding> {
        let reason = match (file.is_stream(), self.loopback, self.scratch) {
            (true, false, _) => "moves data on streams; needs --loopback",
            (false, _, None) => "overwrites card memory; needs --scratch",
            _ => return None,
        };
        Some(Finding::Skipped(reason.into()))
    }

    pub fn scratch(&self) -> u64 {
        self.scratch.unwrap_or(0)
    }
}

/// Runs a step after the card was opened.
pub fn run(step: Step, settings: &Settings, card: &Card, file: &mut CardFile) -> Result<Finding> {
    let moves_data = !matches!(step, Step::Register | Step::Behaviour | Step::Reset);
    if moves_data && let Some(skipped) = settings.no_data(file) {
        return Ok(skipped);
    }
    match step {
        Step::Register => register(card, file),
        Step::WriteBack => write_back(card, file, settings),
        Step::Descriptor => descriptor(card, file, settings),
        Step::Behaviour => behaviour(card, file, settings),
        Step::Rings => rings(card, file, settings),
        Step::Interrupts => interrupts(card, file, settings),
        Step::Sizes => sizes(card, file, settings),
        Step::Load => load(card, file, settings),
        Step::Reset => reset(card, file, settings),
        Step::Identity | Step::Link | Step::Idle => unreachable!("these steps run before the card is open"),
    }
}

pub fn passed(text: impl Into<String>) -> Result<Finding> {
    Ok(Finding::Passed(text.into()))
}

pub fn identity(card: &Card, file: &CardFile, expected: Option<&CardFile>) -> Result<Finding> {
    let report = card.report()?;
    let versions = [file.core.versions.irq, file.core.versions.config, file.core.versions.sgdma_common];
    ensure!(
        versions.iter().all(|version| (1..=6).contains(version)),
        "the blocks of the core report the versions {versions:?}; versions 1 to 6 are known"
    );
    if let Some(expected) = expected {
        let differs = differences(&identity_of(expected), &identity_of(file))?;
        ensure!(differs.is_empty(), "the card does not match its description: {}", differs.join(", "));
    }
    let kind = if file.is_stream() { "AXI-Stream" } else { "memory-mapped" };
    passed(format!(
        "{:04x}:{:04x}, core version {} in BAR{}, {} H2C and {} C2H {kind} channels, {}-bit data path",
        report.vendor,
        report.device,
        versions[0],
        report.register_bar,
        file.channels.h2c,
        file.channels.c2h,
        file.core.data_width
    ))
}

pub fn link(file: &CardFile) -> Result<Finding> {
    let link = file.function.link;
    if link.max_lanes == 0 {
        return Ok(Finding::Skipped("the function does not report its link".into()));
    }
    ensure!(link.lanes > 0 && link.generation > 0, "the link has {} lanes", link.lanes);
    let slower = match (link.generation < link.max_generation, link.lanes < link.max_lanes) {
        (false, false) => String::new(),
        _ => format!("; the card supports Gen{} x{}", link.max_generation, link.max_lanes),
    };
    passed(format!("Gen{} x{}{slower}", link.generation, link.lanes))
}

/// Checks that no engine is busy or reports an error. All engines were stopped when the card was opened.
pub fn idle(card: &Card) -> Result<Finding> {
    let report = card.report()?;
    for channel in &report.channels {
        let Some(engine) = RawEngine::new(card, channel.direction, channel.index)? else { continue };
        let status = engine.status()?;
        ensure!(
            !status.intersects(Status::errors(channel.direction) | Status::BUSY),
            "{} channel {} was stopped, but its status is {:#x}: a busy or error bit cannot be cleared",
            channel.direction,
            channel.index,
            status.bits()
        );
    }
    passed(format!("{} engines stopped", report.channels.len()))
}

fn register(card: &Card, file: &CardFile) -> Result<Finding> {
    let engine = first_engine(card, file)?;
    let check = |what: &str, wrote: u32, read: u32| {
        ensure!(wrote == read, "{what}: {wrote:#010x} was written, but {read:#010x} was read back");
        Ok(())
    };
    for pattern in [0x5555_5540_u32, 0xaaaa_aa80, 0] {
        let upper = pattern.rotate_left(9);
        engine.write(WRITE_BACK_LO, pattern)?;
        engine.write(WRITE_BACK_HI, upper)?;
        check("write-back address, lower half", pattern, engine.read(WRITE_BACK_LO)?)?;
        check("write-back address, upper half", upper, engine.read(WRITE_BACK_HI)?)?;
    }
    engine.write(WRITE_BACK_HI, 0)?;
    engine.write(IRQ_ENABLE, 0x0e)?;
    engine.write(IRQ_ENABLE_W1S, 0x10)?;
    check("interrupt mask after setting bit 4", 0x1e, engine.read(IRQ_ENABLE)?)?;
    engine.write(IRQ_ENABLE_W1C, 0x06)?;
    check("interrupt mask after clearing bits 1 and 2", 0x18, engine.read(IRQ_ENABLE)?)?;
    engine.write(IRQ_ENABLE, 0)?;
    passed("values read back as written; the set and clear aliases work")
}

fn first_engine(card: &Card, file: &CardFile) -> Result<RawEngine> {
    let direction = if file.channels.h2c > 0 { Direction::H2C } else { Direction::C2H };
    RawEngine::new(card, direction, 0)?
        .context("the host cannot provide three pages that are contiguous for the card")
}

fn write_back(card: &Card, file: &CardFile, settings: &Settings) -> Result<Finding> {
    if file.is_stream() {
        return Ok(Finding::Skipped("a descriptor of a stream is a packet; the next step sends some".into()));
    }
    let mut engine = first_engine(card, file)?;
    let mut latest = Duration::ZERO;
    for descriptors in [1, 2] {
        engine.fill(0, if descriptors == 1 { END } else { Flags::empty() }, 0, settings.scratch(), 64)?;
        engine.fill(1, END, 0, settings.scratch(), 64)?;
        engine.start(0, 0, Control::all_ie(engine.direction))?;
        latest = latest.max(await_write_back(&engine, descriptors)?);
        let idle = engine.wait_idle(Duration::from_secs(1))?;
        let ended = engine.ended()?;
        check_run(&engine, &ended, descriptors, idle)?;
        engine.stop()?;
    }
    // Write-backs are ordered: an earlier count must not appear again.
    std::thread::sleep(Duration::from_millis(10));
    let word = engine.word()?;
    ensure!(
        WriteBack(word).count() == 2,
        "a count of 2 was written back, and later a count of {}",
        WriteBack(word).count()
    );
    passed(format!("at most {latest:?} after the engine became idle"))
}

/// Waits for a count to be written back, until the engine has been idle for [`LATE`] or a second has passed. Returns how long the
/// write-back came after the engine became idle.
fn await_write_back(engine: &RawEngine, count: u32) -> Result<Duration> {
    let begin = Instant::now();
    let mut idle_since = None;
    loop {
        if WriteBack(engine.word()?).count() == count {
            let counted = engine.read(COMPLETED_COUNT)?;
            ensure!(
                counted >= count,
                "a count of {count} was written back when the engine had counted {counted}"
            );
            return Ok(idle_since.map_or(Duration::ZERO, |since: Instant| since.elapsed()));
        }
        if idle_since.is_none() && !engine.is_busy()? {
            idle_since = Some(Instant::now());
        }
        let late = idle_since.is_some_and(|since| since.elapsed() > LATE);
        if late || begin.elapsed() > Duration::from_secs(1) {
            // The caller finds out why.
            return Ok(LATE);
        }
        std::thread::yield_now();
    }
}

/// Checks how a run of the first engine ended.
fn check_run(engine: &RawEngine, ended: &Ended, descriptors: u32, idle: bool) -> Result<()> {
    let Ended { status, completed, word } = *ended;
    let errors = status.explain(engine.direction);
    ensure!(errors.is_empty(), "the engine stopped with status {:#x}: {}", status.bits(), errors.join("; "));
    ensure!(
        idle,
        "the engine is still busy after a second (status {:#x}, {completed} descriptors completed)",
        status.bits()
    );
    ensure!(
        completed == descriptors,
        "the list has {descriptors} descriptors, but the engine counted {completed}"
    );
    let count = WriteBack(word).count();
    ensure!(
        count == descriptors && !WriteBack(word).is_error(),
        "{descriptors} descriptors were completed, and {LATE:?} later the write-back in host memory is {word:#x}"
    );
    Ok(())
}

/// Pseudo-random bytes, different for each seed.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(next).collect()
}

/// Opens each path of the card in turn, and runs `test` on it.
pub fn each_path(
    card: &Card,
    file: &CardFile,
    settings: &Settings,
    options: ChannelOptions,
    mut test: impl FnMut(&mut Path) -> Result<()>,
) -> Result<()> {
    (0..Path::count(file)).try_for_each(|index| {
        settings.interrupt.check()?;
        let mut path = Path::open(card, file, index, settings.scratch(), options)?;
        test(&mut path).with_context(|| format!("channel {index}"))
    })
}

fn descriptor(card: &Card, file: &CardFile, settings: &Settings) -> Result<Finding> {
    let mut seed = 0;
    // Twice at each end of the memory.
    let end = if file.is_stream() { 0 } else { SCRATCH_BYTES - 4096 };
    each_path(card, file, settings, ChannelOptions::default(), |path| {
        [0, 0, end, end].into_iter().try_for_each(|offset| {
            seed += 1;
            path.round_trip(card, &pattern(4096, seed), 0, offset)
        })
    })?;
    let checked = if file.channels.h2c.min(file.channels.c2h) > 0 {
        ""
    } else {
        "; one direction only, so not compared"
    };
    passed(format!("4096 bytes on each channel{checked}"))
}

fn behaviour(card: &Card, file: &mut CardFile, settings: &Settings) -> Result<Finding> {
    if let Some(skipped) = settings.no_data(file) {
        return Ok(skipped);
    }
    let streams = settings.loopback && settings.reset;
    Experiments { scratch: settings.scratch(), streams, interrupt: &settings.interrupt }.run(card, file)?;
    let Some(expected) = &settings.expected else {
        return passed("surveyed; add --card-file to compare the card with a description");
    };
    let of = |file: &CardFile| {
        let identity = identity_of(file);
        CardFile { channels: file.channels, switches: file.switches, ..identity }
    };
    let differs = differences(&of(expected), &of(file))?;
    ensure!(differs.is_empty(), "the card differs from its description: {}", differs.join(", "));
    passed("as described")
}

fn rings(card: &Card, file: &CardFile, settings: &Settings) -> Result<Finding> {
    let mut used = vec![];
    for ring in [Ring::Chain, Ring::Credits] {
        let options = ChannelOptions { ring: Some(ring), ..ChannelOptions::default() };
        let tested = each_path(card, file, settings, options, |path| {
            (0..ROUNDS).try_for_each(|round| {
                settings.interrupt.check()?;
                path.round_trip(card, &pattern(512, round as u64), 0, 512 * round as u64)
            })
        });
        match tested {
            Ok(()) => used.push(ring.to_string()),
            Err(error) if matches!(error.downcast_ref(), Some(OpenError::NoCredits { .. })) => {}
            Err(error) => return Err(error.context(format!("{ring} ring"))),
        }
    }
    passed(used.join(" and "))
}

/// Moves data of many sizes, as far aligned as the card states that it needs it.
fn sizes(card: &Card, file: &CardFile, settings: &Settings) -> Result<Finding> {
    let rule = file.channels.alignment;
    let address = |offset: u64| offset.next_multiple_of(rule.address.into());
    let offsets = match file.is_stream() {
        true => vec![(0, 0), (5, 0)],
        false => vec![(0, 0), (address(1), 0), (0, address(3)), (address(7), address(4093))],
    };
    let mut lengths = [1, 2, 3, 63, 64, 65, 127, 4095, 4096, 4097, 40_000usize]
        .map(|len| if file.is_stream() { len } else { len.next_multiple_of(rule.length.into()) })
        .to_vec();
    lengths.dedup();
    let mut count = 0;
    each_path(card, file, settings, ChannelOptions::default(), |path| {
        for &(host, offset) in &offsets {
            for &len in &lengths {
                settings.interrupt.check()?;
                count += 1;
                path.round_trip(card, &pattern(len, count), host, offset)
                    .with_context(|| format!("{len} bytes, host offset {host}, card offset {offset:#x}"))?;
            }
        }
        Ok(())
    })?;
    let aligned = match (rule.address, rule.length) {
        (1, 1) => "aligned and unaligned".to_owned(),
        (address, length) => format!("addresses aligned to {address} and lengths to {length} bytes"),
    };
    passed(format!("{count} transfers of {} to {} bytes, {aligned}", lengths[0], lengths[lengths.len() - 1]))
}

fn load(card: &Card, file: &CardFile, settings: &Settings) -> Result<Finding> {
    let mut all = AllChannels::open(card, file, settings.scratch())?;
    let (begin, mut bytes, mut round) = (Instant::now(), 0u64, 0);
    while begin.elapsed() < settings.load {
        settings.interrupt.check()?;
        bytes += all
            .round(round)
            .with_context(|| format!("after {bytes} bytes and {:.1} s", begin.elapsed().as_secs_f64()))?;
        round += 1;
    }
    passed(format!("{bytes} bytes in {:.1} s, all channels at once", begin.elapsed().as_secs_f64()))
}

fn reset(card: &Card, file: &CardFile, settings: &Settings) -> Result<Finding> {
    if !settings.reset || !card.report()?.bus.resettable {
        let reason = if settings.reset { "the function has no reset" } else { "needs --reset" };
        return Ok(Finding::Skipped(reason.into()));
    }
    let data = pattern(4096, 99);
    let remembers =
        !file.is_stream() && settings.scratch.is_some() && file.channels.h2c.min(file.channels.c2h) > 0;
    if remembers {
        Path::open(card, file, 0, settings.scratch(), ChannelOptions::default())?
            .round_trip(card, &data, 0, 0)?;
    }
    let engine = first_engine(card, file)?;
    engine.write(WRITE_BACK_LO, 0x5555_5540)?;
    card.reset()?;
    let left = engine.read(WRITE_BACK_LO)?;
    ensure!(left == 0, "after a reset, the write-back address still reads {left:#x}");
    drop(engine);
    if !remembers {
        return passed("registers have their reset values");
    }
    let mut c2h = card.c2h(0)?;
    let sink = card.allocate(4096, Direction::C2H)?;
    c2h.transfer(&sink, 0..4096, settings.scratch(), Duration::from_secs(2))?;
    let mut seen = vec![0u8; 4096];
    sink.read(0, &mut seen)?;
    ensure!(seen == data, "after a reset, the memory behind the channels has other contents");
    passed("registers have their reset values, and memory kept its contents")
}
