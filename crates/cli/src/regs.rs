//! The command `xdma regs`.

use crate::card::{CardArgs, Subject};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::number::seconds;
use crate::output;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::Args;
use ratatui::crossterm::terminal::size;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, stdout};
use std::time::Duration;
use xdma::card::{Card, Reading};
use xdma::msm::Design;
use xdma::regs::Direction;
use xdma::regs::channel::Status;
use xdma::regs::map::{Access, Block, Field, Space};

/// Mark of changed registers and fields.
const MARK: &str = "*";
/// Style of changed registers on a terminal.
const CHANGED: Style = AnsiColor::Yellow.on_default().bold();

#[derive(Args)]
pub struct Regs {
    /// The register block: h2c0, c2h0, irq, config, h2c0_sgdma, c2h0_sgdma, sgdma_common, msm, or a prefix such as h2c; by default
    /// all blocks of the XDMA core. The user BAR is read only for msm.
    block: Option<String>,
    #[command(flatten)]
    card: CardArgs,
    /// Read repeatedly, every SECONDS (1 if no value is given), and mark changes. Only one program can open a card at a time; to
    /// watch a card that a program has open, use `xdma top`.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1", value_parser = seconds)]
    watch: Option<Duration>,
    /// With --watch: stop after this number of reads.
    #[arg(long, requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
    /// Also read registers that are cleared by reading (RC); their values are then lost to other programs.
    #[arg(long)]
    force: bool,
}

/// Blocks and their readings.
type Readings = Vec<(Block, Vec<Reading>)>;

impl Regs {
    pub fn run(&self, json: bool) -> Result<()> {
        let card = self.card.open_as_found()?;
        let (subject, blocks) = (self.card.subject(&card)?, self.blocks(&card)?);
        if blocks.iter().any(|block| block.space == Space::User) {
            // Fails if the card carries another design, which has other registers.
            Design::of(&card)?;
        }
        let read_all = || -> Result<Readings> {
            let read = |block: Block| Ok((block.clone(), card.read_block(&block, self.force)?));
            blocks.iter().cloned().map(read).collect()
        };
        let mut last = read_all()?;
        print(&subject, &last, None, json)?;
        let Some(interval) = self.watch else { return Ok(()) };
        let interrupt = Interrupt::install()?;
        for _ in 1..self.times.unwrap_or(u64::MAX) {
            if let Err(Failure::Interrupted) = interrupt.sleep(interval) {
                break;
            }
            let now = read_all()?;
            print(&subject, &now, Some(&last), json)?;
            last = now;
        }
        Ok(())
    }

    fn blocks(&self, card: &Card) -> Result<Vec<Block>> {
        let report = card.report()?;
        let core = Block::of_core(report.count(Direction::H2C), report.count(Direction::C2H));
        let Some(name) = self.block.as_ref().map(|name| name.to_lowercase()) else { return Ok(core) };
        let known = core.into_iter().chain([Block::msm()]).collect::<Vec<_>>();
        let exact: Vec<_> = known.iter().filter(|block| block.name == name).cloned().collect();
        let by_prefix: Vec<_> = known.iter().filter(|block| block.name.starts_with(&name)).cloned().collect();
        match (exact.is_empty(), by_prefix.is_empty()) {
            (false, _) => Ok(exact),
            (true, false) => Ok(by_prefix),
            (true, true) => {
                let names: Vec<_> = known.iter().map(|block| block.name.as_str()).collect();
                let text = format!("this card has no block {name}; its blocks are {}", names.join(", "));
                Err(Failure::Usage(text).into())
            }
        }
    }
}

fn print(subject: &Subject, now: &Readings, before: Option<&Readings>, json: bool) -> Result<()> {
    let blocks = now.iter().enumerate().map(|(at, (block, readings))| {
        let before = before.map(|before| before[at].1.as_slice());
        (block, readings.as_slice(), before)
    });
    if json {
        let blocks: Vec<_> =
            blocks.map(|(block, readings, before)| object(block, readings, before)).collect();
        let object = json!({ "card": subject.name, "emulated": subject.emulated, "blocks": blocks });
        return output::line(&object.to_string());
    }
    let mut all: Vec<_> = blocks.map(|(block, readings, before)| lines(block, readings, before)).collect();
    all.iter_mut().filter_map(|lines| lines.first_mut()).for_each(|title| title.text += subject.note());
    if before.is_none() || !stdout().is_terminal() {
        return output::line(&fit(&all, usize::MAX));
    }
    let rows = size().map_or(usize::MAX, |(_, rows)| rows.into());
    // Cursor home, then clear to the end of the screen, so that the output does not scroll.
    output::line(&format!("\x1b[H\x1b[J{}", fit(&all, rows.saturating_sub(1))))
}

/// Joins the lines of all blocks. If they do not fit in `rows`, only lines that changed are included, with a note.
fn fit(blocks: &[Vec<Line>], rows: usize) -> String {
    let whole =
        |lines: &Vec<Line>| lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
    let whole = blocks.iter().map(whole).collect::<Vec<_>>().join("\n\n");
    if whole.lines().count() <= rows {
        return whole;
    }
    let changed = blocks.iter().filter(|lines| lines.iter().any(|line| line.changed));
    let part = changed.flat_map(|lines| {
        lines
            .iter()
            .enumerate()
            .filter(|(at, line)| *at == 0 || line.changed)
            .map(|(_, line)| line.text.as_str())
    });
    let mut part: Vec<_> = part.take(rows.saturating_sub(1)).collect();
    part.push(
        "the window is too small for all registers, so only changes are shown; to see a whole block, name it",
    );
    part.join("\n")
}

/// A line of output: a block's title, a register, or its explanation.
struct Line {
    text: String,
    changed: bool,
}

fn lines(block: &Block, readings: &[Reading], before: Option<&[Reading]>) -> Vec<Line> {
    let bar = if block.space == Space::Xdma { "XDMA" } else { "user" };
    let title = format!("{} at {:#06x} in the {bar} BAR", block.name, block.base);
    let mut lines = vec![Line { text: title, changed: false }];
    for (at, reading) in readings.iter().enumerate() {
        // Aliases and triggers have no value.
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
                format!(
                    "{mark} {address:#06x} {access:4} {name:21} not read, as reading clears it (use --force)"
                )
            }
        };
        let line = line.trim_end();
        let colour = changed && stdout().is_terminal();
        let text = if colour { format!("{CHANGED}{line}{CHANGED:#}") } else { line.into() };
        let explanation = explanation(block, reading).map(|text| Line { text, changed });
        lines.extend([Line { text, changed }].into_iter().chain(explanation));
    }
    lines
}

fn name(reading: &Reading) -> String {
    let name = reading.register.name.to_lowercase();
    if reading.register.count > 1 { format!("{name}[{}]", reading.index) } else { name }
}

fn hex(reading: &Reading, value: u64) -> String {
    if reading.register.pair { format!("{value:#018x}") } else { format!("{value:#010x}") }
}

/// Formats the flags that are set and all numeric fields. Changed fields are marked, including flags that were cleared.
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

/// Explains the error bits of a channel's status.
fn explanation(block: &Block, reading: &Reading) -> Option<String> {
    let direction = block.direction.filter(|_| reading.register.name.starts_with("STATUS"))?;
    let texts = Status::from_bits_retain(reading.value? as u32).explain(direction);
    (!texts.is_empty()).then(|| format!("{:13}{}", "", texts.join("; ")))
}

/// Returns the names of the fields whose values changed.
fn changed_fields(reading: &Reading, before: Option<u64>) -> Vec<String> {
    let (Some(now), Some(before)) = (reading.value, before) else { return vec![] };
    let changed = |field: &&Field| field.of(now as u32) != field.of(before as u32);
    reading.register.fields.iter().filter(changed).map(|field| field.name.to_lowercase()).collect()
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
                "changed_fields": before.map(|before| changed_fields(reading, before[at].value)),
            })
        })
        .collect();
    json!({ "name": block.name, "base": block.base, "registers": registers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_window_shows_only_changes() {
        let block = |name: &str, changed: &[usize]| -> Vec<Line> {
            (0..4).map(|at| Line { text: format!("{name}{at}"), changed: changed.contains(&at) }).collect()
        };
        let blocks = [block("a", &[2]), block("b", &[]), block("c", &[1, 3])];
        assert_eq!(fit(&blocks[..2], 9), "a0\na1\na2\na3\n\nb0\nb1\nb2\nb3");
        let note = "the window is too small for all registers, so only changes are shown; to see a whole block, name it";
        assert_eq!(fit(&blocks, 9), format!("a0\na2\nc0\nc1\nc3\n{note}"));
        assert_eq!(fit(&blocks, 3), format!("a0\na2\n{note}"));
        assert_eq!(fit(&blocks, 0), note);
    }
}
