//! `xdma regs`.

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::number::seconds;
use crate::output;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, stdout};
use std::time::Duration;
use xdma::card::{Card, Reading};
use xdma::msm::Design;
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma::regs::map::{Access, Block, Field, Space};

/// What changed is marked with this, and on a terminal with a colour.
const MARK: &str = "*";
const COLOUR: Style = AnsiColor::Yellow.on_default().bold();

#[derive(Args)]
pub struct Regs {
    /// Which: h2c0, c2h0, irq, config, h2c0_sgdma, c2h0_sgdma, sgdma_common, msm, or the beginning of names (h2c); all of the
    /// XDMA core if none is named. msm is in the user BAR, which is read for it alone.
    block: Option<String>,
    #[command(flatten)]
    card: CardArgs,
    /// Look again and again, every second or so many seconds, and mark what changed.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    watch: Option<Duration>,
    /// With --watch: stop after so many looks.
    #[arg(long, requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
    /// Read also what changes by being read (RC), so that nobody else sees what it said.
    #[arg(long)]
    force: bool,
}

/// A block, and what it read.
type Seen = Vec<(Block, Vec<Reading>)>;

impl Regs {
    pub fn run(&self, json: bool) -> Result<()> {
        let card = self.card.open_as_found()?;
        let blocks = self.blocks(&card)?;
        if blocks.iter().any(|block| block.space == Space::User) {
            // Another design has other registers there.
            Design::of(&card)?;
        }
        let look = || -> Result<Seen> {
            let read = |block: Block| Ok((block.clone(), card.read_block(&block, self.force)?));
            blocks.iter().cloned().map(read).collect()
        };
        let mut seen = look()?;
        print(&seen, None, json)?;
        let Some(interval) = self.watch else { return Ok(()) };
        let interrupt = Interrupt::listen()?;
        for _ in 1..self.times.unwrap_or(u64::MAX) {
            if let Err(Failure::Interrupted) = interrupt.sleep(interval) {
                break;
            }
            let now = look()?;
            print(&now, Some(&seen), json)?;
            seen = now;
        }
        Ok(())
    }

    fn blocks(&self, card: &Card) -> Result<Vec<Block>> {
        let report = card.report()?;
        let core = Block::of_core(report.count(Direction::H2C), report.count(Direction::C2H));
        let Some(wanted) = self.block.as_ref().map(|name| name.to_lowercase()) else { return Ok(core) };
        let known = core.into_iter().chain([Block::msm()]).collect::<Vec<_>>();
        let exact: Vec<_> = known.iter().filter(|block| block.name == wanted).cloned().collect();
        let begins: Vec<_> = known.iter().filter(|block| block.name.starts_with(&wanted)).cloned().collect();
        match (exact.is_empty(), begins.is_empty()) {
            (false, _) => Ok(exact),
            (true, false) => Ok(begins),
            (true, true) => {
                let names: Vec<_> = known.iter().map(|block| block.name.as_str()).collect();
                let text = format!("this card has no block {wanted}; it has {}", names.join(", "));
                Err(Failure::Usage(text).into())
            }
        }
    }
}

fn print(seen: &Seen, before: Option<&Seen>, json: bool) -> Result<()> {
    let blocks = seen.iter().enumerate().map(|(at, (block, readings))| {
        let before = before.map(|before| before[at].1.as_slice());
        if json { object(block, readings, before) } else { Value::String(text(block, readings, before)) }
    });
    let blocks: Vec<_> = blocks.collect();
    if json {
        return output::line(&json!({ "blocks": blocks }).to_string());
    }
    // Home, and clear to the end: the picture stands still.
    let home = if before.is_some() && stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
    let blocks: Vec<_> = blocks.iter().filter_map(Value::as_str).collect();
    output::line(&format!("{home}{}", blocks.join("\n\n")))
}

fn text(block: &Block, readings: &[Reading], before: Option<&[Reading]>) -> String {
    let bar = if block.space == Space::Xdma { "XDMA" } else { "user" };
    let mut lines = vec![format!("{} at {:#06x} of the {bar} BAR", block.name, block.base)];
    for (at, reading) in readings.iter().enumerate() {
        // Aliases and triggers have nothing to show.
        if reading.register.access == Access::Wo {
            continue;
        }
        let before = before.and_then(|before| before[at].value);
        let changed = before.is_some() && before != reading.value;
        let mark = if changed { MARK } else { " " };
        let (address, access, name) = (reading.address, reading.register.access, name(reading));
        let line = match reading.value {
            Some(value) => {
                let fields = fields(reading, value, before);
                format!("{mark} {address:#06x} {access:4} {name:21} {}  {fields}", hex(reading, value))
            }
            None => {
                format!("{mark} {address:#06x} {access:4} {name:21} not read: reading clears it (--force)")
            }
        };
        let line = line.trim_end();
        let colour = changed && stdout().is_terminal();
        lines.push(if colour { format!("{COLOUR}{line}{COLOUR:#}") } else { line.into() });
        lines.extend(explanation(block, reading));
    }
    lines.join("\n")
}

fn name(reading: &Reading) -> String {
    let name = reading.register.name.to_lowercase();
    if reading.register.count > 1 { format!("{name}[{}]", reading.index) } else { name }
}

fn hex(reading: &Reading, value: u64) -> String {
    if reading.register.pair { format!("{value:#018x}") } else { format!("{value:#010x}") }
}

/// Flags that are set, and all numbers; those that changed are marked, also flags that fell.
fn fields(reading: &Reading, value: u64, before: Option<u64>) -> String {
    if reading.register.fields.is_empty() {
        return if value > 9 { value.to_string() } else { String::new() };
    }
    let show = |field: &Field| {
        let now = field.of(value as u32);
        let mark = if before.is_some_and(|before| field.of(before as u32) != now) { MARK } else { "" };
        let name = field.name.to_lowercase();
        match (field.flag, now) {
            (true, 0) if mark.is_empty() => None,
            (true, 0) => Some(format!("{name}=0{mark}")),
            (true, _) if field.mask.is_power_of_two() => Some(format!("{name}{mark}")),
            _ => {
                let meaning = field.bytes.map(|bytes| format!(" ({} bytes)", bytes(now))).unwrap_or_default();
                let now = if now < 256 { now.to_string() } else { format!("{now:#x}") };
                Some(format!("{name}={now}{meaning}{mark}"))
            }
        }
    };
    reading.register.fields.iter().filter_map(show).collect::<Vec<_>>().join(" ")
}

/// What the error bits of a channel's status mean.
fn explanation(block: &Block, reading: &Reading) -> Option<String> {
    let direction = block.direction.filter(|_| reading.register.name.starts_with("STATUS"))?;
    let texts = Status::from_bits_retain(reading.value? as u32).explain(direction);
    (!texts.is_empty()).then(|| format!("{:13}{}", "", texts.join("; ")))
}

fn object(block: &Block, readings: &[Reading], before: Option<&[Reading]>) -> Value {
    let registers = readings.iter().enumerate().filter(|(_, reading)| reading.register.access != Access::Wo);
    let registers: Vec<_> = registers
        .map(|(at, reading)| {
            let fields = reading.value.map(|value| {
                let field = |field: &Field| (field.name.to_lowercase(), json!(field.of(value as u32)));
                reading.register.fields.iter().map(field).collect::<Map<_, _>>()
            });
            json!({
                "name": name(reading),
                "address": reading.address,
                "access": reading.register.access.to_string(),
                "value": reading.value,
                "fields": fields,
                "changed": before.map(|before| before[at].value != reading.value),
            })
        })
        .collect();
    json!({ "name": block.name, "base": block.base, "registers": registers })
}
