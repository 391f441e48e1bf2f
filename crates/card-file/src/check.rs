//! Validation of descriptions.

use super::{Bar, CardFile, FORMAT, Holds, Interface, Setting};
use serde::Deserialize;
use std::path::PathBuf;

/// The number of BARs of a function.
const BARS: usize = 6;
/// The size of the core's register space without the MSI-X table.
const REGISTER_SPACE: u64 = 0x8000;
/// The largest number of channels in a direction.
const MAX_CHANNELS: usize = 4;

/// An invalid description of a card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check that it is a file that you may read", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not TOML, lacks a key, or has a key or value that the format does not have.
    #[error("the text is not the description of a card: {0}")]
    Parse(Box<toml::de::Error>),
    /// The file is of another version of the format.
    #[error(
        "the description has format {0}, and this version reads format {FORMAT}; use the version that wrote it"
    )]
    Format(i64),
    /// The values do not describe a card that can exist.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// Checks the version before the rest, which another version may write differently.
pub fn check_format(text: &str) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Version {
        format: i64,
    }
    match toml::from_str::<Version>(text) {
        Ok(Version { format }) if format != i64::from(FORMAT) => Err(Error::Format(format)),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Parse(Box::new(error))),
    }
}

pub fn check(card: &CardFile) -> Result<(), Error> {
    check_bars(card)?;
    check_function(card)?;
    check_core(card)?;
    check_shell(card)?;
    check_logic(card)
}

fn expect(holds: bool, key: &'static str, reason: impl Into<String>) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Invalid { key, reason: reason.into() }) }
}

fn check_function(card: &CardFile) -> Result<(), Error> {
    let function = &card.function;
    expect(card.format == FORMAT, "format", format!("this version knows format {FORMAT}"))?;
    expect(function.vendor != 0xffff, "function.vendor", "0xffff means that there is no function")?;
    expect(function.class < 1 << 24, "function.class", "a class code has 24 bits")?;
    let msi = function.msi_vectors;
    expect(
        msi == 0 || msi.is_power_of_two() && msi <= 32,
        "function.msi_vectors",
        "a function has 0, 1, 2, 4, 8, 16 or 32 vectors",
    )?;
    let payload = function.max_payload;
    expect(
        payload.is_power_of_two() && (128..=4096).contains(&payload),
        "function.max_payload",
        "a payload is a power of two from 128 to 4096 bytes",
    )?;
    let link = function.link;
    expect(
        link.max_generation <= 6
            && link.max_lanes <= 32
            && link.generation <= link.max_generation
            && link.lanes <= link.max_lanes,
        "function.link",
        "generations must be 0 to 6, lanes 0 to 32, and neither may exceed its maximum",
    )?;
    let Some(msix) = function.msix else { return Ok(()) };
    expect((1..=2048).contains(&msix.vectors), "function.msix.vectors", "a table has 1 to 2048 vectors")?;
    let bar = card.bars.iter().find(|bar| bar.index == msix.bar);
    let end = |offset: u32, bytes: u64| u64::from(offset) + bytes;
    let vectors = u64::from(msix.vectors);
    let (table, pending) = (end(msix.table, 16 * vectors), end(msix.pending, vectors.div_ceil(64) * 8));
    expect(
        ![card.register_bar(), card.interrupt_bar()].contains(&Some(msix.bar))
            || u64::from(msix.table.min(msix.pending)) >= REGISTER_SPACE,
        "function.msix",
        "table and pending bits in a BAR with registers or the interrupt block must come after these, from 0x8000 on",
    )?;
    expect(
        bar.is_some_and(|bar| table.max(pending) <= bar.size)
            && (msix.table | msix.pending).is_multiple_of(8)
            && (table <= msix.pending.into() || pending <= msix.table.into()),
        "function.msix",
        "table and pending bits must be inside an existing BAR, at multiples of 8, and must not overlap",
    )
}

fn check_bars(card: &CardFile) -> Result<(), Error> {
    let mut free = 0;
    for bar in &card.bars {
        check_bar(bar)?;
        expect(
            bar.index >= free,
            "bar.index",
            format!("BAR{} is out of order, or the upper half of a 64-bit BAR", bar.index),
        )?;
        free = bar.index + if bar.width == 64 { 2 } else { 1 };
        expect(free <= BARS, "bar.index", format!("a function has {BARS} BARs, and a 64-bit one takes two"))?;
    }
    let holding = |holds| card.bars.iter().filter(move |bar| bar.holds == Setting::Known(holds));
    let registers: Vec<&Bar> = holding(Holds::Registers).collect();
    expect(
        registers.len() == 1 && registers[0].size >= REGISTER_SPACE,
        "bar.holds",
        "exactly one BAR, of at least 32K, must hold the registers",
    )?;
    expect(
        holding(Holds::Interrupts).count() <= 1
            && holding(Holds::Interrupts).all(|bar| bar.size >= REGISTER_SPACE),
        "bar.holds",
        "at most one BAR, of at least 32K, can hold the interrupt block",
    )
}

fn check_bar(bar: &Bar) -> Result<(), Error> {
    let least = if bar.prefetchable || bar.width == 64 { 128 } else { 16 };
    expect(matches!(bar.width, 32 | 64), "bar.width", "an address has 32 or 64 bits")?;
    expect(
        bar.size.is_power_of_two() && bar.size >= least && bar.size <= 1 << 63,
        "bar.size",
        format!("a size is a power of two, at least {least} here"),
    )?;
    expect(bar.width == 64 || bar.size <= 1 << 31, "bar.size", "a BAR with 32-bit addresses has at most 2G")?;
    if let Some(offset) = bar.user_offset {
        expect(
            bar.holds == Setting::Known(Holds::Registers),
            "bar.user_offset",
            "only the BAR that holds the registers can also have user registers",
        )?;
        expect(
            (REGISTER_SPACE..bar.size).contains(&offset.0) && offset.0.is_multiple_of(4096),
            "bar.user_offset",
            "user registers begin behind the core's registers (32K), inside the BAR, at a multiple of 4096",
        )?;
    }
    let reserved = bar.reserved.known().unwrap_or_default();
    expect(reserved.0 <= bar.size, "bar.reserved", "the reserved bytes exceed the BAR")
}

fn check_core(card: &CardFile) -> Result<(), Error> {
    let (core, channels) = (&card.core, &card.channels);
    expect(
        matches!(core.data_width, 64 | 128 | 256 | 512),
        "core.data_width",
        "a data path has 64, 128, 256 or 512 bits",
    )?;
    expect(
        channels.h2c <= MAX_CHANNELS && channels.c2h <= MAX_CHANNELS,
        "channels",
        format!("a core has at most {MAX_CHANNELS} channels in each direction"),
    )?;
    expect(channels.h2c + channels.c2h > 0, "channels", "a core has at least one channel")?;
    let address_bits = channels.address_bits;
    expect((1..=64).contains(&address_bits), "channels.address_bits", "addresses have 1 to 64 bits")?;
    let versions = core.versions;
    let named =
        |count: usize, version: [u8; 2]| (count > 0) == (version[0] > 0) && (count > 0) == (version[1] > 0);
    expect(
        named(channels.h2c, [versions.h2c, versions.h2c_sgdma])
            && named(channels.c2h, [versions.c2h, versions.c2h_sgdma]),
        "core.versions",
        "the blocks of a direction without channels must have version 0, and all others must not",
    )?;
    let alignments = [Some(channels.alignment), channels.fixed_address.known()];
    expect(
        alignments
            .iter()
            .flatten()
            .all(|rule| rule.address.is_power_of_two() && rule.length.is_power_of_two()),
        "channels",
        "alignments must be powers of two",
    )
}

fn check_shell(card: &CardFile) -> Result<(), Error> {
    let (reads, payload) = (card.shell.outstanding_reads.known(), card.shell.reported_payload.known());
    expect(
        reads.is_none_or(|reads| (1..=256).contains(&reads)),
        "shell.outstanding_reads",
        "1 to 256 reads can be under way",
    )?;
    expect(
        payload.is_none_or(|payload| [128, 256, 512, 1024].contains(&payload)),
        "shell.reported_payload",
        "the shell reports 128, 256, 512 or 1024 bytes",
    )
}

fn check_logic(card: &CardFile) -> Result<(), Error> {
    let streams = card.channels.interface == Interface::Stream;
    if let Some(design) = card.logic.design.known() {
        expect(
            streams == (design == super::Design::Loopback),
            "logic.design",
            "`loopback` is for stream channels, and the other designs are for memory-mapped ones",
        )?;
    }
    let ranges = card.logic.memory.clone().known().unwrap_or_default();
    let mut end = Some(0);
    for range in &ranges {
        let ordered = range.size > 0 && end.is_some_and(|end| range.address >= end);
        expect(ordered, "logic.memory", "ranges must be non-empty, ascending, and must not overlap")?;
        end = range.address.checked_add(range.size);
        expect(
            end.is_some() && range.address.is_multiple_of(4096) && range.size.is_multiple_of(4096),
            "logic.memory",
            "ranges must begin and end at multiples of 4096, below 2^64",
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_f2_card_has_its_parts_in_their_places() {
        let refused = |key: &str, change: fn(&mut CardFile)| {
            let mut card = CardFile::f2();
            change(&mut card);
            match card.check() {
                Err(Error::Invalid { key: named, .. }) => assert_eq!(named, key),
                other => panic!("{key}: {other:?}"),
            }
        };
        refused("bar.user_offset", |card| card.bars[0].user_offset = Some(crate::Bytes(0x4000)));
        refused("bar.user_offset", |card| card.bars[0].user_offset = Some(crate::Bytes(64 << 20)));
        refused("bar.user_offset", |card| card.bars[0].user_offset = Some(crate::Bytes(0x1_0800)));
        refused("bar.user_offset", |card| card.bars[2].user_offset = Some(crate::Bytes(0x1_0000)));
        refused("bar.holds", |card| card.bars[2].holds = Holds::Interrupts.into());
        refused("bar.holds", |card| card.bars[1].size = 0x4000);
        refused("function.msix", |card| card.function.msix.iter_mut().for_each(|msix| msix.table = 0x4000));
    }
}
