//! The command `xdma bench`.

mod compare;
mod html;
mod log;
mod machine;
mod measure;
mod results;
mod text;

use crate::card::CardArgs;
use crate::failure::{Failure, innermost};
use crate::interrupt::Interrupt;
use crate::{file, number, output};
use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use machine::{Calibration, CardDescription, Machine, Noise};
use measure::{Bench, Figure};
use results::{Directions, Results, Sweep};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use xdma::card::Card;
use xdma::channel::{ChannelOptions, EngineError, InvalidTransfer, Wait};
use xdma::regs::Direction;

/// Size of the transfers for the throughput by depth, in bytes.
const DEPTH_SWEEP_SIZE: u64 = 4 << 10;
/// Size of the transfers for the throughput by channels, in bytes.
const CHANNEL_SWEEP_SIZE: u64 = 256 << 10;
/// Maximum number of bytes in flight on a channel. A few large transfers keep any card busy.
const MAX_IN_FLIGHT: u64 = 64 << 20;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Benchmark {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    card: CardArgs,
    /// Card address of memory that may be overwritten, at least as large as the largest size. Required, except for cards that are
    /// emulated in this command, which then use --logic memory and address 0.
    #[arg(long, value_parser = number::parse)]
    address: Option<u64>,
    /// Transfer sizes, up to 1G [default: 64,512,4K,32K,256K,2M,16M,256M].
    #[arg(long, value_parser = number::parse, value_delimiter = ',')]
    sizes: Vec<u64>,
    /// Numbers of transfers in flight on each channel; throughput is measured with each [default: 1,2,4,8,16,32].
    #[arg(long, value_delimiter = ',', value_parser = number::count::<64>)]
    depths: Vec<u8>,
    /// Numbers of channels of each direction; throughput is measured with each [default: 1,2,4, as far as the card has them].
    #[arg(long, value_delimiter = ',', value_parser = number::count::<4>)]
    channels: Vec<u8>,
    /// Number of transfers in flight on each channel while sizes or channels are varied.
    #[arg(long, default_value_t = 4, value_parser = number::count::<64>)]
    depth: u8,
    /// Time to measure each figure [default: 0.4].
    #[arg(long, value_name = "SECONDS", value_parser = number::seconds)]
    time: Option<Duration>,
    /// Measure few sizes for a short time, to check that everything works.
    #[arg(long)]
    quick: bool,
    /// How to wait for completions: spin, spin-then-yield, hybrid or interrupt.
    #[arg(long, default_value_t)]
    wait: Wait,
    /// Pin the measuring thread to this processor. The threads of an emulated card are not pinned.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Write a self-contained HTML page with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write all histograms to this file, as an HdrHistogram interval log (V2) in nanoseconds.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Compare two results of `xdma bench --json`.
    #[command(after_help = crate::failure::EXIT_CODES)]
    Compare(compare::Compare),
}

impl Benchmark {
    pub fn run(&self, json: bool) -> Result<()> {
        if let Some(Command::Compare(compare)) = &self.command {
            return compare.run(json);
        }
        if self.html.is_some() && self.html == self.log {
            return Err(Failure::Usage("--html and --log name the same file".into()).into());
        }
        // Check before the measurement, which takes a while.
        self.html.iter().chain(&self.log).try_for_each(|path| file::check_writable(path))?;
        let start = SystemTime::now();
        let (results, figures) = self.measure()?;
        if let Some(path) = &self.html {
            html::write(path, || html::page(&results))?;
        }
        if let Some(path) = &self.log {
            let log = log::of(&figures, start)?;
            file::create(path)?.write_all(&log).map_err(file::cannot("write", path))?;
        }
        output::line(&if json { serde_json::to_string(&results)? } else { text::text(&results) })
    }

    /// Measures all figures. Returns the results, and the figures with their histograms.
    fn measure(&self) -> Result<(Results, Vec<Figure>)> {
        let (args, address) = self.target()?;
        let sizes = self.sizes(address)?;
        let load = machine::load();
        let interrupt = Interrupt::install()?;
        let card = args.open()?;
        let mut figures = self.figures(&card, &sizes)?;
        let each = self.time.unwrap_or(Duration::from_millis(if self.quick { 20 } else { 400 }));
        let channel = ChannelOptions { wait: self.wait, ..ChannelOptions::default() };
        let mut bench = Bench::open(&card, &interrupt, address, each, channel, &figures)?;
        let processors = machine::processors();
        // Pin after the emulated card has started its threads, which would inherit the affinity.
        self.cpu.map_or(Ok(()), machine::pin)?;
        let before = Calibration::measure()?;
        let bar = progress(figures.len() as u64 * u64::from(measure::ROUNDS));
        bench.run(&mut figures, &bar).map_err(|error| add_hint(error, address, &sizes))?;
        bar.finish_and_clear();
        let (latency, throughput) = split(&figures);
        let rounds = latency.iter().map(|of| of.total.rounds.as_slice());
        let rounds: Vec<_> = rounds.chain(throughput.iter().map(|of| of.rounds.as_slice())).collect();
        let noise = Noise::new(load, [before, Calibration::measure()?], &rounds);
        let (name, ring, wait) = (args.choice()?.to_string(), bench.ring(), self.wait.to_string());
        let card = CardDescription::new(name, &card.report()?, ring, wait, address);
        let machine = Machine::read(card, processors, self.cpu, noise);
        Ok((Results::new(machine, each.as_secs_f64(), latency, throughput), figures))
    }

    /// Returns the card to measure, and the address of its memory.
    fn target(&self) -> Result<(CardArgs, u64)> {
        // If no card is named, that is the error, not the missing address.
        self.card.choice()?;
        match self.address {
            Some(address) => Ok((self.card.clone(), address)),
            None => match self.card.with_memory() {
                Some(card) => Ok((card, 0)),
                None => {
                    let text =
                        "--address is missing: set it to the address of card memory that may be overwritten";
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
            return Err(Failure::Usage("--sizes must be from 1 byte to 1G".into()).into());
        }
        if address.checked_add(last).is_none() {
            return Err(InvalidTransfer::CardAddress { address, len: last }.into());
        }
        Ok(sizes)
    }

    /// Returns all figures to measure.
    fn figures(&self, card: &Card, sizes: &[u64]) -> Result<Vec<Figure>> {
        let choose = |given: &[u8], default: &[u8], quick: &[u8]| -> Vec<usize> {
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
        let depths = choose(&self.depths, &[1, 2, 4, 8, 16, 32], &[1, 4]);
        let mut channels = choose(&self.channels, &[1, 2, 4], &[1, 2]);
        let report = card.report()?;
        let max = report.count(Direction::H2C).min(report.count(Direction::C2H));
        if !self.channels.is_empty() && channels.iter().any(|&channels| channels > max) {
            let text = format!("--channels: this card has only {max} channels in each direction");
            return Err(Failure::Usage(text).into());
        }
        channels.retain(|&channels| channels <= max);
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let in_flight = |bytes: u64| usize::from(self.depth).min((MAX_IN_FLIGHT / bytes).max(1) as usize);
        let mut all = vec![];
        for direction in [Direction::H2C, Direction::C2H] {
            for &bytes in sizes {
                all.push(Figure::latency(direction, bytes)?);
            }
        }
        for direction in [Directions::H2C, Directions::C2H] {
            let by_size =
                |&bytes: &u64| Figure::throughput(Sweep::Size, direction, bytes, in_flight(bytes), 1);
            all.extend(sizes.iter().map(by_size));
            let by_depth = |&depth: &usize| {
                Figure::throughput(Sweep::Depth, direction, DEPTH_SWEEP_SIZE.min(largest), depth, 1)
            };
            all.extend(depths.iter().map(by_depth));
        }
        for directions in [Directions::H2C, Directions::C2H, Directions::Both] {
            let bytes = CHANNEL_SWEEP_SIZE.min(largest);
            let by_channels = |&channels: &usize| {
                Figure::throughput(Sweep::Channels, directions, bytes, self.depth.into(), channels)
            };
            all.extend(channels.iter().map(by_channels));
        }
        Ok(all)
    }
}

/// Adds a hint to the error of a failed transfer: there may be too little memory at the address.
fn add_hint(error: anyhow::Error, address: u64, sizes: &[u64]) -> anyhow::Error {
    let is_failure = |cause| matches!(innermost(cause).downcast_ref(), Some(EngineError::Failed { .. }));
    if !error.chain().any(is_failure) {
        return error;
    }
    let largest = number::bytes(sizes.iter().copied().max().unwrap_or(1));
    let text = format!("bench needs {largest} of memory at card address {address:#x}");
    error.context(format!("{text}; if the card has less there, set --address and --sizes"))
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

/// Creates a progress bar with the current figure and the remaining time, on standard error if it is a terminal.
fn progress(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:20} {percent:>3} % {eta:>4}  {wide_msg}");
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
