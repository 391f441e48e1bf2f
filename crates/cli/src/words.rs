//! `xdma peek` and `xdma poke`.

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::{number, output};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::sync::Arc;
use xdma::bus::{Bar, BusError};
use xdma::card::{Card, UserBar};
use xdma::regs::MAX_CHANNELS;
use xdma::regs::map::{Access, Block};

#[derive(Args)]
pub struct Peek {
    #[command(flatten)]
    card: CardArgs,
    /// Where, in bytes from the BAR's start: a multiple of 4.
    #[arg(value_parser = number::parse32)]
    offset: u32,
    /// How many words.
    #[arg(default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Which BAR.
    #[arg(long, value_enum, default_value = "user")]
    bar: BarName,
    /// Read also what changes by being read.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub struct Poke {
    #[command(flatten)]
    card: CardArgs,
    /// Where, in bytes from the BAR's start: a multiple of 4.
    #[arg(value_parser = number::parse32)]
    offset: u32,
    /// Words for there and the places after.
    #[arg(value_parser = number::parse32, required = true)]
    values: Vec<u32>,
    /// Which BAR.
    #[arg(long, value_enum, default_value = "user")]
    bar: BarName,
    /// Write also to the XDMA core: a wrong word there can start an engine.
    #[arg(long)]
    force: bool,
    /// Do not read back what was written.
    #[arg(long)]
    no_read_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BarName {
    /// The user logic's.
    User,
    /// The XDMA core's.
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
            words.offsets().find(|&offset| !self.force && words.is_changed_by_reading(offset))
        {
            let text = format!(
                "reading {offset:#x} clears it, so that nobody sees what it said; --force does it anyway"
            );
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
            let text = "the XDMA core's registers are the driver's: a wrong word can start an engine; --force writes it";
            return Err(Failure::Usage(text.into()).into());
        }
        let card = self.card.open_as_found()?;
        let words = Words::new(&card, self.bar, self.offset, self.values.len() as u32)?;
        for (offset, &value) in words.offsets().zip(&self.values) {
            words.write(offset, value)?;
        }
        let mut seen = vec![];
        for offset in words.offsets() {
            let silent = self.no_read_back || words.is_changed_by_reading(offset);
            seen.push(if silent { None } else { Some(words.read(offset)?) });
        }
        let lines = words.offsets().zip(self.values.iter().zip(&seen));
        if json {
            let object = json!({
                "card": self.card.card.to_string(), "bar": self.bar.name(), "offset": self.offset,
                "written": self.values, "read_back": seen,
            });
            output::line(&object.to_string())?;
        } else {
            for (offset, (written, seen)) in lines {
                let seen = match seen {
                    Some(seen) if seen == written => ", reads back the same".into(),
                    Some(seen) => format!(", reads back {seen:08x}"),
                    None => String::new(),
                };
                output::line(&format!("{offset:08x}: {written:08x}{seen}"))?;
            }
        }
        Ok(())
    }
}

/// Words of a BAR, all inside it.
struct Words {
    bar: Target,
    offset: u32,
    count: u32,
}

enum Target {
    User(UserBar),
    Xdma(Arc<dyn Bar>),
}

impl Words {
    fn new(card: &Card, bar: BarName, offset: u32, count: u32) -> Result<Self> {
        let bar = match bar {
            BarName::User => Target::User(card.user()?),
            BarName::Xdma => Target::Xdma(card.register_bar()),
        };
        let size = match &bar {
            Target::User(bar) => bar.size(),
            Target::Xdma(bar) => bar.size(),
        };
        // The first word that is outside, before any other is touched.
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
            Target::User(bar) => bar.read(offset),
            Target::Xdma(bar) => bar.read32(offset.into()),
        };
        value.with_context(|| format!("cannot read {offset:#x}"))
    }

    fn write(&self, offset: u32, value: u32) -> Result<()> {
        let written = match &self.bar {
            Target::User(bar) => bar.write(offset, value),
            Target::Xdma(bar) => bar.write32(offset.into(), value),
        };
        written.with_context(|| format!("cannot write {offset:#x}"))
    }

    fn is_changed_by_reading(&self, offset: u32) -> bool {
        let clears = |block: &Block| {
            let mut registers = block.registers.iter();
            registers.any(|r| r.access == Access::Rc && block.base + r.offset == offset)
        };
        matches!(self.bar, Target::Xdma(_)) && Block::of_core(MAX_CHANNELS, MAX_CHANNELS).iter().any(clears)
    }
}
