//! `xdma bench`.

mod compare;
mod html;
mod log;
mod machine;
mod measure;
mod results;
mod text;

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::{number, output};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use machine::{Calm, CardDescription, Machine, Noise};
use measure::{Bench, Figure};
use results::{Results, Sweep, Way};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use xdma::card::Card;
use xdma::channel::{ChannelOptions, EngineError, Wait};
use xdma::regs::Direction;

/// Bytes of the transfers whose throughput is measured over depths, and over channels.
const BY_DEPTH: u64 = 4 << 10;
const BY_CHANNELS: u64 = 256 << 10;
/// Bytes that are in flight on a channel at most: a few large transfers keep any card busy.
const IN_FLIGHT: u64 = 64 << 20;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    card: CardArgs,
    /// Card address of memory that may be overwritten, as much as the largest size. An emulated card that lives as long as the
    /// command has nothing to lose: 0, with --logic memory.
    #[arg(long, value_parser = number::parse)]
    address: Option<u64>,
    /// Sizes of transfers, up to 1G. [default: 64,512,4K,32K,256K,2M,16M,256M]
    #[arg(long, value_parser = number::parse, value_delimiter = ',')]
    sizes: Vec<u64>,
    /// Transfers in flight on each channel: throughput is measured with each of them. [default: 1,2,4,8,16,32]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=64))]
    depths: Vec<u8>,
    /// How many channels of each direction: throughput is measured with each of them, as far as the card has them.
    /// [default: 1,2,4]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=4))]
    channels: Vec<u8>,
    /// Transfers in flight while something else than that is varied.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    depth: u8,
    /// Seconds for each figure. [default: 0.4]
    #[arg(long, value_name = "SECONDS", value_parser = number::seconds)]
    time: Option<Duration>,
    /// Few sizes and little time: whether it works, rather than how well.
    #[arg(long)]
    quick: bool,
    /// How to wait for completions: spin, spin-then-yield, hybrid, interrupt.
    #[arg(long, default_value_t)]
    wait: Wait,
    /// Keep the measuring thread on this processor. An emulated card's threads stay where they like.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Write a page with plots there, which needs nothing else to be looked at.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write all histograms there, as an HdrHistogram interval log (V2), in nanoseconds.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Compares two results, which `xdma bench --json` has printed.
    #[command(after_help = crate::failure::EXIT_CODES)]
    Compare(compare::Compare),
}

impl Options {
    pub fn run(&self, json: bool) -> Result<()> {
        if let Some(Command::Compare(compare)) = &self.command {
            return compare.run(json);
        }
        if self.html.is_some() && self.html == self.log {
            return Err(Failure::Usage("--html and --log name the same file".into()).into());
        }
        // Nobody wants to wait for a file that cannot be written.
        self.html.iter().chain(&self.log).try_for_each(|path| output::can_create(path))?;
        let start = SystemTime::now();
        let (results, figures) = self.measure()?;
        if let Some(path) = &self.html {
            html::write(path, || html::page(&results))?;
        }
        if let Some(path) = &self.log {
            log::write(output::create(path)?, &figures, start)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        output::line(&if json { serde_json::to_string(&results)? } else { text::text(&results) })
    }

    /// The figures as results, and as they were measured.
    fn measure(&self) -> Result<(Results, Vec<Figure>)> {
        let (args, address) = self.target()?;
        let sizes = self.sizes(address)?;
        let load = machine::load();
        let interrupt = Interrupt::listen()?;
        let card = args.open()?;
        let mut figures = self.figures(&card, &sizes)?;
        let each = self.time.unwrap_or(Duration::from_millis(if self.quick { 20 } else { 400 }));
        let channel = ChannelOptions { wait: self.wait, ..ChannelOptions::default() };
        let mut bench = Bench::open(&card, &interrupt, address, each, channel, &figures)?;
        let processors = machine::processors();
        // Threads that the card has started by now go where they like.
        self.cpu.map_or(Ok(()), machine::pin)?;
        let before = Calm::measure()?;
        let bar = progress(figures.len() as u64 * u64::from(measure::ROUNDS));
        bench.run(&mut figures, &bar).map_err(|error| hint(error, address, &sizes))?;
        bar.finish_and_clear();
        let (latency, throughput) = split(&figures);
        let rounds = latency.iter().map(|of| of.total.rounds.as_slice());
        let rounds: Vec<_> = rounds.chain(throughput.iter().map(|of| of.rounds.as_slice())).collect();
        let noise = Noise::new(load, [before, Calm::measure()?], &rounds);
        let (name, ring, wait) = (args.card.to_string(), bench.ring(), self.wait.to_string());
        let card = CardDescription::new(name, &card.report()?, ring, wait, address);
        let machine = Machine::look(card, processors, self.cpu, noise);
        Ok((Results::new(machine, each.as_secs_f64(), latency, throughput), figures))
    }

    /// The card, and where its memory is.
    fn target(&self) -> Result<(CardArgs, u64)> {
        match self.address {
            Some(address) => Ok((self.card.clone(), address)),
            None => match self.card.with_memory() {
                Some(card) => Ok((card, 0)),
                None => {
                    let text = "--address is missing: say where this card has memory that may be overwritten";
                    Err(Failure::Usage(text.into()).into())
                }
            },
        }
    }

    fn sizes(&self, address: u64) -> Result<Vec<u64>> {
        let default: &[u64] = match self.quick {
            true => &[64, 4 << 10, 256 << 10],
            false => &[64, 512, 4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20, 256 << 20],
        };
        let mut sizes = if self.sizes.is_empty() { default.to_vec() } else { self.sizes.clone() };
        sizes.sort_unstable();
        sizes.dedup();
        let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
        if first == 0 || last > 1 << 30 {
            return Err(Failure::Usage("--sizes takes 1 byte to 1G".into()).into());
        }
        if address.checked_add(last).is_none() {
            return Err(EngineError::CardAddress { address, len: last }.into());
        }
        Ok(sizes)
    }

    /// Everything that is to be measured.
    fn figures(&self, card: &Card, sizes: &[u64]) -> Result<Vec<Figure>> {
        let or = |given: &[u8], default: &[u8], quick: &[u8]| -> Vec<usize> {
            let values = match (given, self.quick) {
                ([], false) => default,
                ([], true) => quick,
                (given, _) => given,
            };
            let mut values: Vec<_> = values.iter().map(|&value| value.into()).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        let depths = or(&self.depths, &[1, 2, 4, 8, 16, 32], &[1, 4]);
        let mut channels = or(&self.channels, &[1, 2, 4], &[1, 2]);
        let report = card.report()?;
        let most = report.count(Direction::H2C).min(report.count(Direction::C2H));
        if !self.channels.is_empty() && channels.iter().any(|&channels| channels > most) {
            let text = format!("--channels: this card has {most} channels in each direction");
            return Err(Failure::Usage(text).into());
        }
        channels.retain(|&channels| channels <= most);
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let in_flight = |bytes: u64| usize::from(self.depth).min((IN_FLIGHT / bytes).max(1) as usize);
        let mut all = vec![];
        for direction in [Direction::H2C, Direction::C2H] {
            for &bytes in sizes {
                all.push(Figure::latency(direction, bytes)?);
            }
        }
        for way in [Way::H2C, Way::C2H] {
            let by_size = |&bytes: &u64| Figure::throughput(Sweep::Size, way, bytes, in_flight(bytes), 1);
            all.extend(sizes.iter().map(by_size));
            let by_depth =
                |&depth: &usize| Figure::throughput(Sweep::Depth, way, BY_DEPTH.min(largest), depth, 1);
            all.extend(depths.iter().map(by_depth));
        }
        for way in [Way::H2C, Way::C2H, Way::Both] {
            let bytes = BY_CHANNELS.min(largest);
            let by_channels = |&channels: &usize| {
                Figure::throughput(Sweep::Channels, way, bytes, self.depth.into(), channels)
            };
            all.extend(channels.iter().map(by_channels));
        }
        Ok(all)
    }
}

/// What may be wrong where the card refused an address.
fn hint(error: anyhow::Error, address: u64, sizes: &[u64]) -> anyhow::Error {
    if !matches!(error.downcast_ref(), Some(EngineError::Failed { .. })) {
        return error;
    }
    let largest = number::bytes(sizes.iter().copied().max().unwrap_or(1));
    let text = format!("bench needs {largest} of memory at card address {address:#x}");
    error.context(format!("{text}; if there is less, name --address and --sizes"))
}

fn split(figures: &[Figure]) -> (Vec<results::Latency>, Vec<results::Throughput>) {
    let (mut latency, mut throughput) = (vec![], vec![]);
    for figure in figures {
        match figure {
            Figure::Latency(of) => latency.push(of.result()),
            Figure::Throughput(of) => throughput.push(of.result()),
        }
    }
    (latency, throughput)
}

/// What is measured, how far it is, and how long it will take; on standard error if that is a terminal.
fn progress(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {eta:>4}  {msg}");
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
