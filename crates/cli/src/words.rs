//! `xdma peek` and `xdma poke`.

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::{number, output};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::sync::Arc;
use xdma::card::{BusError, Card, UserBar};
use xdma::regs::MAX_CHANNELS;
use xdma::regs::map::{Access, Block};
use xdma::unstable::bus::Bar;
use xdma::unstable::card::registers;

#[derive(Args)]
pub struct Peek {
    #[command(flatten)]
    card: CardArgs,
    /// Offset of the first word in the BAR, in bytes: a multiple of 4.
    #[arg(value_parser = number::parse32)]
    offset: u32,
    /// Number of words.
    #[arg(default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// The BAR.
    #[arg(long, value_enum, default_value = "user")]
    bar: BarName,
    /// Also read registers that are cleared by reading.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub struct Poke {
    #[command(flatten)]
    card: CardArgs,
    /// Offset of the first word in the BAR, in bytes: a multiple of 4.
    #[arg(value_parser = number::parse32)]
    offset: u32,
    /// Values of the words at this offset and the following ones.
    #[arg(value_parser = number::parse32, required = true)]
    values: Vec<u32>,
    /// The BAR.
    #[arg(long, value_enum, default_value = "user")]
    bar: BarName,
    /// Allow writes to the registers of the XDMA core, where a wrong value can start an engine.
    #[arg(long)]
    force: bool,
    /// Do not read the words back.
    #[arg(long)]
    no_read_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BarName {
    /// The BAR of the user logic.
    User,
    /// The BAR with the registers of the XDMA core.
    Xdma,
}

impl BarName {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Xdma => "xdma",
        }
    }
}

impl Peek {
    pub fn run(&self, json: bool) -> Result<()> {
        let card = self.card.open_as_found()?;
        let words = Words::new(&card, self.bar, self.offset, self.count)?;
        if let Some(offset) =
            words.offsets().find(|&offset| !self.force && words.is_cleared_by_reading(offset))
        {
            let text = format!("reading {offset:#x} clears the register; use --force to read it anyway");
            return Err(Failure::Usage(text).into());
        }
        let values = words.offsets().map(|offset| words.read(offset)).collect::<Result<Vec<_>>>()?;
        if json {
            let object = json!({
                "card": self.card.card.to_string(), "bar": self.bar.name(), "offset": self.offset, "values": values,
            });
            output::line(&object.to_string())?;
        } else {
            for (line, four) in values.chunks(4).enumerate() {
                let four: Vec<_> = four.iter().map(|value| format!("{value:08x}")).collect();
                output::line(&format!("{:08x}: {}", self.offset + 16 * line as u32, four.join(" ")))?;
            }
        }
        Ok(())
    }
}

impl Poke {
    pub fn run(&self, json: bool) -> Result<()> {
        if self.bar == BarName::Xdma && !self.force {
            let text = "a wrong value in a register of the XDMA core can start an engine; use --force to write it anyway";
            return Err(Failure::Usage(text.into()).into());
        }
        let card = self.card.open_as_found()?;
        let words = Words::new(&card, self.bar, self.offset, self.values.len() as u32)?;
        for (offset, &value) in words.offsets().zip(&self.values) {
            words.write(offset, value)?;
        }
        let mut read_back = vec![];
        for offset in words.offsets() {
            let skip = self.no_read_back || words.is_cleared_by_reading(offset);
            read_back.push(if skip { None } else { Some(words.read(offset)?) });
        }
        let lines = words.offsets().zip(self.values.iter().zip(&read_back));
        if json {
            let object = json!({
                "card": self.card.card.to_string(), "bar": self.bar.name(), "offset": self.offset,
                "written": self.values, "read_back": read_back,
            });
            output::line(&object.to_string())?;
        } else {
            for (offset, (written, read)) in lines {
                let note = match read {
                    Some(read) if read == written => ", verified".into(),
                    Some(read) => format!(", reads back as {read:08x}"),
                    None => String::new(),
                };
                output::line(&format!("{offset:08x}: {written:08x}{note}"))?;
            }
        }
        Ok(())
    }
}

/// A range of words that lies inside a BAR.
struct Words {
    bar: WordBar,
    offset: u32,
    count: u32,
}

/// A BAR that is accessed by words.
enum WordBar {
    User(UserBar),
    Xdma(Arc<dyn Bar>),
}

impl Words {
    fn new(card: &Card, bar: BarName, offset: u32, count: u32) -> Result<Self> {
        let bar = match bar {
            BarName::User => WordBar::User(card.user()?),
            BarName::Xdma => WordBar::Xdma(registers(card)),
        };
        let size = match &bar {
            WordBar::User(bar) => bar.size(),
            WordBar::Xdma(bar) => bar.size(),
        };
        // The error names the first word outside the BAR; no word is accessed.
        let end = u64::from(offset) + 4 * u64::from(count);
        if !offset.is_multiple_of(4) || end > size.min(1 << 32) {
            let offset = if offset.is_multiple_of(4) { u64::from(offset).max(size) } else { offset.into() };
            return Err(BusError::BadOffset { offset, size }.into());
        }
        Ok(Self { bar, offset, count })
    }

    fn offsets(&self) -> impl Iterator<Item = u32> + use<> {
        let offset = self.offset;
        (0..self.count).map(move |at| offset + 4 * at)
    }

    fn read(&self, offset: u32) -> Result<u32> {
        let value = match &self.bar {
            WordBar::User(bar) => bar.read(offset),
            WordBar::Xdma(bar) => bar.read32(offset.into()),
        };
        value.with_context(|| format!("cannot read {offset:#x}"))
    }

    fn write(&self, offset: u32, value: u32) -> Result<()> {
        let written = match &self.bar {
            WordBar::User(bar) => bar.write(offset, value),
            WordBar::Xdma(bar) => bar.write32(offset.into(), value),
        };
        written.with_context(|| format!("cannot write {offset:#x}"))
    }

    fn is_cleared_by_reading(&self, offset: u32) -> bool {
        let clears = |block: &Block| {
            let mut registers = block.registers.iter();
            registers.any(|r| r.access == Access::Rc && block.base + r.offset == offset)
        };
        matches!(self.bar, WordBar::Xdma(_)) && Block::of_core(MAX_CHANNELS, MAX_CHANNELS).iter().any(clears)
    }
}
