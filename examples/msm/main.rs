//! Computes one MSM on the card, or on several. With one card, its data can be sent in three ways, for comparison.
//!
//!     cargo run --release --example msm                                   # 2^16 pairs
//!     cargo run --release --example msm -- --pairs 1048576
//!     cargo run --release --example msm -- --mode chunked --chunk 512 --repeat 5
//!     cargo run --release --example msm -- --mode chunked --chunk all      # deadlocks, and reports why
//!     cargo run --release --example msm -- --points points.bin --scalars scalars.bin
//!     cargo run --release --example msm -- --cards 8                       # divided over emulated cards
//!     cargo run --release --example msm -- --card 0000:3b:00.0 --card 0000:5e:00.0
//!
//! Typical output of the first command:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! 65,536 pairs, 6.00 MiB, program over the chain ring, chunks of 512 pairs
//!   this driver  descriptors: 256, doorbells: 1, register writes: 12, register reads: 2,003, system calls: 4,973
//!   xdma.ko      descriptors: 1,536, starts: 256, pinned pages: 1,536, calls of write(): 256
//!   accepted in 55.46ms (median of 1, 113.43 MB/s); result after 1.77s
//!   verified: the CPU (arkworks) computes the same point
//! ```
//!
//! The line `this driver` shows the measured cost of the last repetition: the data needs one doorbell, and most register reads and
//! system calls poll for the result over the socket of the emulated card. The line `xdma.ko` shows the cost of the same data
//! through the kernel's driver, calculated from its source code. `accepted` is the time until the design had accepted all data,
//! `result` the time until its sum was available.
//!
//! Input files contain elements without a header: 64 bytes per point (x, then y, Montgomery form), 32 bytes per scalar,
//! little-endian.

mod feed;
mod several;

use anyhow::{Context, Result, bail, ensure};
use ark_bn254::{Fr, G1Affine};
use clap::{Parser, ValueEnum};
use feed::{Feeder, Limit};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use xdma::channel::{Ring, Wait};
use xdma::msm::TimeoutEstimator;
use xdma::msm::curve::arkworks as curve;
use xdma_examples::card::{CardArgs, CardsArgs, Cost};
use xdma_examples::kernel_driver::{self, KernelCost};
use xdma_examples::{data, human};

/// Computes an MSM on the card and checks it against the CPU.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    cards: CardsArgs,
    /// Number of generated points and scalars, at most 2^26.
    #[arg(long, default_value_t = 1 << 16, value_parser = clap::value_parser!(u32).range(..=1 << 26), conflicts_with_all = ["points", "scalars"])]
    pairs: u32,
    /// Seed of the generated points and scalars.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File of points.
    #[arg(long, requires = "scalars")]
    points: Option<PathBuf>,
    /// File of scalars.
    #[arg(long, requires = "points")]
    scalars: Option<PathBuf>,
    /// Use Montgomery form for the scalars, in the file and in memory, instead of canonical form.
    #[arg(long)]
    montgomery: bool,
    /// How to send the data.
    #[arg(long, value_enum, default_value = "program")]
    mode: FeedMode,
    /// Descriptor ring [default: chain].
    #[arg(long, value_enum)]
    ring: Option<RingName>,
    /// Pairs per chunk, or `all` [default: chosen from the depth of the design's FIFOs].
    #[arg(long)]
    chunk: Option<Chunk>,
    /// Number of repetitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Time limit in seconds for a transfer and for the result [default: follows the number of pairs and the duration of earlier
    /// runs].
    #[arg(long, value_parser = seconds)]
    timeout: Option<f64>,
    /// How to wait: spin, spin-then-yield, hybrid, interrupt.
    #[arg(long, default_value_t)]
    wait: Wait,
    /// Do not check the sum against the CPU.
    #[arg(long)]
    no_check: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 86_400.0 => Ok(value),
        _ => Err("expected seconds, above 0 and at most 86400".into()),
    }
}

/// Ways of sending an MSM's data to the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeedMode {
    /// One blocking transfer after the other: the scalars of a chunk, then its points.
    Chunked,
    /// Two threads with a channel each, one for scalars and one for points, which synchronise after every chunk.
    TwoChannel,
    /// One chain of descriptors for all chunks, scalars and points interleaved, built once and started once.
    Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RingName {
    Chain,
    Credits,
}

impl From<RingName> for Ring {
    fn from(name: RingName) -> Self {
        match name {
            RingName::Chain => Self::Chain,
            RingName::Credits => Self::Credits,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    All,
    Pairs(u32),
}

impl FromStr for Chunk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(pairs)) if pairs > 0 && pairs % 2 == 0 => Ok(Self::Pairs(pairs)),
            _ => Err("expected `all` or an even number of pairs (a beat contains two scalars)".into()),
        }
    }
}

/// The output of `--json`.
#[derive(Serialize)]
struct MsmReport {
    card: String,
    pairs: u64,
    mode: String,
    ring: String,
    chunk: u64,
    /// Bytes of scalars and points, without padding.
    bytes: u64,
    /// Cost of the last repetition.
    #[serde(flatten)]
    cost: Cost,
    /// For each repetition, the seconds from its start until the card had accepted all data.
    seconds: Vec<f64>,
    /// Seconds from the start of the last repetition until its result was available.
    seconds_result: f64,
    /// Whether the CPU computed the same point. `null` with `--no-check`.
    verified: Option<bool>,
    /// Cost of the same data through the kernel's driver.
    xdma_ko: KernelCost,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (points, scalars) = inputs(&args)?;
    ensure!(
        points.len() == scalars.len(),
        "{} points and {} scalars: an MSM needs equal numbers of both",
        points.len(),
        scalars.len()
    );
    let progress = ProgressBar::new(u64::from(args.repeat) + 1)
        .with_style(ProgressStyle::with_template("{elapsed:>4} [{bar:20}] {pos}/{len} {msg}")?);
    progress.enable_steady_tick(Duration::from_millis(200));
    let verified = match args.cards.single()? {
        Some(card) => run_one(&args, &card, &points, &scalars, &progress)?,
        None => several::run(&args, points, scalars, &progress)?,
    };
    ensure!(verified != Some(false), "the card's sum differs from the CPU's");
    Ok(())
}

/// Computes the MSM on one card, and prints the report. Returns whether the CPU computed the same point.
fn run_one(
    args: &Args,
    card: &CardArgs,
    points: &[G1Affine],
    scalars: &[Fr],
    progress: &ProgressBar,
) -> Result<Option<bool>> {
    let report = run(args, card, points, scalars, progress);
    progress.finish_and_clear();
    let report = report?;
    show(args, &report, print)?;
    Ok(report.verified)
}

/// Prints a report: as JSON if requested, or with `print`.
fn show<R: Serialize>(args: &Args, report: &R, print: fn(&R)) -> Result<()> {
    match args.json {
        true => println!("{}", serde_json::to_string(report)?),
        false => print(report),
    }
    Ok(())
}

fn inputs(args: &Args) -> Result<(Vec<G1Affine>, Vec<Fr>)> {
    match (&args.points, &args.scalars) {
        (Some(points), Some(scalars)) => {
            Ok((data::read_points(points)?, data::read_scalars(scalars, args.montgomery)?))
        }
        _ => {
            let (pairs, seed) = (args.pairs as usize, args.seed);
            Ok((data::random_points(pairs, seed), data::random_scalars(pairs, seed)))
        }
    }
}

fn run(
    args: &Args,
    card_args: &CardArgs,
    points: &[G1Affine],
    scalars: &[Fr],
    progress: &ProgressBar,
) -> Result<MsmReport> {
    progress.set_message("opening the card");
    let card = card_args.open()?;
    let name = card_args.describe(&card)?;
    let chunk = match args.chunk {
        None => None,
        Some(Chunk::Pairs(chunk)) => Some(chunk),
        Some(Chunk::All) => Some(u32::try_from(points.len().next_multiple_of(2)).context("too many pairs")?),
    };
    let limit = match args.timeout {
        Some(seconds) => Limit::Fixed(Duration::from_secs_f64(seconds)),
        None => Limit::Estimated(TimeoutEstimator::new(card_args.timeout_margin())),
    };
    let ring = args.ring.map_or(Ring::Chain, Ring::from);
    progress.set_message("writing points and scalars");
    let mut feeder = Feeder::new(&card, args.mode, ring, chunk, args.wait, limit)?;
    feeder.load(points, scalars, args.montgomery)?;
    if feeder.is_stub() && !args.no_check {
        bail!("the design on this card has a stub core, which does not compute an MSM: add --no-check");
    }
    let (mut seconds, mut last) = (vec![], None);
    for number in 1..=args.repeat {
        progress.set_message(format!("{} pairs, run {number}", human::count(points.len() as u64)));
        let fed = feeder.run()?;
        seconds.push(fed.accepted);
        last = Some(fed);
        progress.inc(1);
    }
    let fed = last.context("there is at least one repetition")?;
    progress.set_message("checking on the CPU");
    let verified = match args.no_check {
        true => None,
        false => Some(curve::result_to_point(&fed.output.bytes)? == data::cpu_msm(points, scalars)?),
    };
    let (pairs, chunk) = (points.len() as u64, feeder.chunk());
    Ok(MsmReport {
        card: name,
        pairs,
        mode: args.mode.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default(),
        ring: ring.to_string(),
        chunk: chunk.into(),
        bytes: pairs * 96,
        cost: fed.cost,
        seconds,
        seconds_result: fed.result,
        verified,
        xdma_ko: kernel_driver::msm_feed(points.len(), chunk as usize, 0),
    })
}

fn print(report: &MsmReport) {
    let MsmReport { cost, xdma_ko, .. } = report;
    println!("{}", report.card);
    println!(
        "{} pairs, {}, {} over the {} ring, chunks of {} pairs",
        human::count(report.pairs),
        human::bytes(report.bytes),
        report.mode,
        report.ring,
        human::count(report.chunk)
    );
    println!(
        "  this driver  descriptors: {}, doorbells: {}, register writes: {}, register reads: {}, system calls: {}",
        human::count(cost.descriptors),
        human::count(cost.doorbells),
        human::count(cost.register_writes),
        human::count(cost.register_reads),
        human::count(cost.system_calls)
    );
    println!(
        "  xdma.ko      descriptors: {}, starts: {}, pinned pages: {}, calls of write(): {}",
        human::count(xdma_ko.descriptors),
        human::count(xdma_ko.starts),
        human::count(xdma_ko.pinned_pages),
        human::count(xdma_ko.calls)
    );
    let mut sorted = report.seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    println!(
        "  accepted in {} (median of {}, {}); result after {}",
        human::seconds(median),
        sorted.len(),
        human::bandwidth(report.bytes, median),
        human::seconds(report.seconds_result)
    );
    println!("  {}", verdict(report.verified));
}

fn verdict(verified: Option<bool>) -> &'static str {
    match verified {
        Some(true) => "verified: the CPU (arkworks) computes the same point",
        Some(false) => "WRONG: the CPU (arkworks) computes another point",
        None => "not checked against the CPU (--no-check)",
    }
}
