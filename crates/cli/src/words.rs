//! `xdma peek` and `xdma poke`.

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::{number, output};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use xdma::card::{BusError, Card};
use xdma::regs::MAX_CHANNELS;
use xdma::regs::map::{Access, Block};
use xdma::unstable::bus::Bar;
use xdma::unstable::card;

#[derive(Args)]
pub struct Peek {
    #[command(flatten)]
    card: CardArgs,
    /// Offset of the first word in the BAR, in bytes: a multiple of the word's size.
    #[arg(value_parser = number::parse, allow_negative_numbers = true)]
    offset: u64,
    /// Number of words.
    #[arg(default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// The BAR: user, xdma, or its number, 0 to 5.
    #[arg(long, default_value = "user")]
    bar: BarName,
    /// Size of a word in bits.
    #[arg(long, value_enum, default_value = "32")]
    width: Width,
    /// Also read registers that are cleared by reading.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub struct Poke {
    #[command(flatten)]
    card: CardArgs,
    /// Offset of the first word in the BAR, in bytes: a multiple of the word's size.
    #[arg(value_parser = number::parse, allow_negative_numbers = true)]
    offset: u64,
    /// Values of the words at this offset and the following ones.
    #[arg(value_parser = number::parse, required = true, allow_negative_numbers = true)]
    values: Vec<u64>,
    /// The BAR: user, xdma, or its number, 0 to 5.
    #[arg(long, default_value = "user")]
    bar: BarName,
    /// Size of a word in bits.
    #[arg(long, value_enum, default_value = "32")]
    width: Width,
    /// Allow writes to the registers of the XDMA core, where a wrong value can start an engine.
    #[arg(long)]
    force: bool,
    /// Do not read the words back.
    #[arg(long)]
    no_read_back: bool,
}

/// A BAR, by its role or its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BarName {
    /// The BAR of the user logic.
    User,
    /// The BAR with the registers of the XDMA core.
    Xdma,
    Number(usize),
}

impl FromStr for BarName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("user", _) => Ok(Self::User),
            ("xdma", _) => Ok(Self::Xdma),
            (_, Ok(number)) if number < 6 => Ok(Self::Number(number)),
            _ => Err(format!("`{text}` is not a BAR: use user, xdma, or a number from 0 to 5")),
        }
    }
}

impl BarName {
    /// Returns the BAR of a card, and whether it holds registers of an XDMA core.
    fn find(self, card: &Card) -> Result<(Arc<dyn Bar>, bool)> {
        let report = card.report()?;
        let number = match self {
            Self::User => return Ok((card::user(card)?, false)),
            Self::Xdma => report.register_bar,
            Self::Number(number) => number,
        };
        let is_core = number == report.register_bar || Some(number) == report.interrupt_bar;
        Ok((card::bar(card, number)?, is_core))
    }
}

impl fmt::Display for BarName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Xdma => f.write_str("xdma"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// The size of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Width {
    #[value(name = "8")]
    Bits8 = 1,
    #[value(name = "16")]
    Bits16 = 2,
    #[value(name = "32")]
    Bits32 = 4,
    #[value(name = "64")]
    Bits64 = 8,
}

impl Width {
    fn bytes(self) -> u8 {
        self as u8
    }

    /// Returns the largest value of a word.
    fn max(self) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(self.bytes()))
    }

    fn hex(self, value: u64) -> String {
        format!("{value:0digits$x}", digits = 2 * usize::from(self.bytes()))
    }
}

impl Peek {
    pub fn run(&self, json: bool) -> Result<()> {
        let card = self.card.open_as_found()?;
        let subject = self.card.subject(&card)?;
        let words = Words::new(&card, self.bar, self.width, self.offset, self.count.into())?;
        if let Some(offset) =
            words.offsets().find(|&offset| !self.force && words.is_cleared_by_reading(offset))
        {
            let text = format!("reading {offset:#x} clears the register; use --force to read it anyway");
            return Err(Failure::Usage(text).into());
        }
        let values = words.offsets().map(|offset| words.read(offset)).collect::<Result<Vec<_>>>()?;
        if json {
            let object = json!({
                "card": subject.name, "emulated": subject.emulated, "bar": self.bar.to_string(), "offset": self.offset,
                "bits": 8 * self.width.bytes(), "values": values,
            });
            output::line(&object.to_string())?;
        } else {
            let per_line = 16 / usize::from(self.width.bytes());
            for (line, part) in values.chunks(per_line).enumerate() {
                let part: Vec<_> = part.iter().map(|&value| self.width.hex(value)).collect();
                let (offset, words) = (self.offset + 16 * line as u64, part.join(" "));
                output::line(&format!("{offset:08x}: {words}{}", subject.note()))?;
            }
        }
        Ok(())
    }
}

impl Poke {
    pub fn run(&self, json: bool) -> Result<()> {
        if let Some(value) = self.values.iter().find(|&&value| value > self.width.max()) {
            let text = format!("{value:#x} does not fit in {} bits; use --width", 8 * self.width.bytes());
            return Err(Failure::Usage(text).into());
        }
        let card = self.card.open_as_found()?;
        let subject = self.card.subject(&card)?;
        let words = Words::new(&card, self.bar, self.width, self.offset, self.values.len() as u64)?;
        if words.is_core && !self.force {
            let text = "a wrong value in a register of the XDMA core can start an engine; use --force to write it anyway";
            return Err(Failure::Usage(text.into()).into());
        }
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
                "card": subject.name, "emulated": subject.emulated, "bar": self.bar.to_string(), "offset": self.offset,
                "bits": 8 * self.width.bytes(), "written": self.values, "read_back": read_back,
            });
            output::line(&object.to_string())?;
        } else {
            for (offset, (&written, read)) in lines {
                let note = match read {
                    Some(read) if *read == written => ", verified".into(),
                    Some(read) => format!(", reads back as {}", self.width.hex(*read)),
                    None => String::new(),
                };
                output::line(&format!("{offset:08x}: {}{note}{}", self.width.hex(written), subject.note()))?;
            }
        }
        Ok(())
    }
}

/// A range of words that lies inside a BAR.
struct Words {
    bar: Arc<dyn Bar>,
    /// Whether the BAR holds the registers of the XDMA core.
    is_core: bool,
    offset: u64,
    count: u64,
    width: Width,
}

impl Words {
    fn new(card: &Card, bar: BarName, width: Width, offset: u64, count: u64) -> Result<Self> {
        let (bar, is_core) = bar.find(card)?;
        // The error names the first word outside the BAR; no word is accessed.
        let (size, step) = (bar.size(), u64::from(width.bytes()));
        if !offset.is_multiple_of(step) {
            let text = format!("{offset:#x} is not a multiple of {step}, the size of a word in bytes");
            return Err(Failure::Usage(text).into());
        }
        let end = count.checked_mul(step).and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > size) {
            return Err(BusError::BadOffset { offset: offset.max(size), size }.into());
        }
        Ok(Self { bar, is_core, offset, count, width })
    }

    fn offsets(&self) -> impl Iterator<Item = u64> + use<> {
        let (offset, step) = (self.offset, u64::from(self.width.bytes()));
        (0..self.count).map(move |at| offset + step * at)
    }

    fn read(&self, offset: u64) -> Result<u64> {
        self.bar.read(offset, self.width.bytes()).with_context(|| format!("cannot read {offset:#x}"))
    }

    fn write(&self, offset: u64, value: u64) -> Result<()> {
        self.bar.write(offset, self.width.bytes(), value).with_context(|| format!("cannot write {offset:#x}"))
    }

    fn is_cleared_by_reading(&self, offset: u64) -> bool {
        let word = offset..offset + u64::from(self.width.bytes());
        let clears = |block: &Block| {
            let mut cleared = block.registers.iter().filter(|register| register.access == Access::Rc);
            cleared.any(|register| {
                let at = u64::from(block.base + register.offset);
                at < word.end && word.start < at + 4
            })
        };
        self.is_core && Block::of_core(MAX_CHANNELS, MAX_CHANNELS).iter().any(clears)
    }
}
