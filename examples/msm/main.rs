//! One MSM, fed in each of the ways that have been tried.
//!
//!     cargo run --release --example msm -- --pairs 1048576
//!     cargo run --release --example msm -- --mode chunked --chunk 512 --repeat 5
//!     cargo run --release --example msm -- --mode chunked --chunk all      # deadlocks, and says why
//!     cargo run --release --example msm -- --points points.bin --scalars scalars.bin
//!
//! Files hold elements and nothing else: 64 bytes a point (x then y, Montgomery form), 32 bytes a scalar, little-endian.

mod feed;

use anyhow::{Context, Result, bail, ensure};
use ark_bn254::{Fr, G1Affine};
use clap::{Parser, ValueEnum};
use feed::Feeder;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use xdma::channel::{Ring, Wait};
use xdma::msm::curve::arkworks as curve;
use xdma_examples::card::{CardArgs, Cost};
use xdma_examples::{data, human, kernel_driver};

/// Computes an MSM on the card and checks it against the CPU.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    card: CardArgs,
    /// Pairs of made-up points and scalars; the design takes 2^26 at most.
    #[arg(long, default_value_t = 1 << 16, value_parser = clap::value_parser!(u32).range(..=1 << 26), conflicts_with_all = ["points", "scalars"])]
    pairs: u32,
    /// Seed of made-up points and scalars.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File of points.
    #[arg(long, requires = "scalars")]
    points: Option<PathBuf>,
    /// File of scalars.
    #[arg(long, requires = "points")]
    scalars: Option<PathBuf>,
    /// Scalars lie in memory (and in the file) in Montgomery form rather than canonical.
    #[arg(long)]
    montgomery: bool,
    /// How the card is fed.
    #[arg(long, value_enum, default_value = "program")]
    mode: Mode,
    /// Which ring [default: chain].
    #[arg(long, value_enum)]
    ring: Option<RingName>,
    /// Pairs a chunk, or `all` [default: what the design's FIFOs suggest].
    #[arg(long)]
    chunk: Option<Chunk>,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Seconds after which a transfer, or the result, counts as stuck: 10 unless said otherwise, 600 with a simulated design.
    #[arg(long, value_parser = seconds)]
    timeout: Option<f64>,
    /// How to wait: spin, spin-then-yield, hybrid, interrupt.
    #[arg(long, default_value_t)]
    wait: Wait,
    /// Do not compute the sum on the CPU to compare.
    #[arg(long)]
    no_check: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 86_400.0 => Ok(value),
        _ => Err("seconds, above 0 and at most 86400".into()),
    }
}

/// The ways of feeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One blocking transfer after the other: the scalars of a chunk, then its points.
    Chunked,
    /// Two threads on two channels, one for scalars and one for points, that meet after every chunk.
    TwoChannel,
    /// One interleaved chain for all chunks, built once and started once.
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
            _ => Err("an even number of pairs (a beat carries two scalars), or `all`".into()),
        }
    }
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    card: String,
    pairs: u64,
    mode: String,
    ring: String,
    chunk: u64,
    /// Of scalars and points; padding is left out.
    bytes: u64,
    #[serde(flatten)]
    cost: Cost,
    /// Each repetition's, from the start until the card accepted the last write.
    seconds: Vec<f64>,
    /// The last repetition's, until the result was there.
    seconds_result: f64,
    /// Whether the CPU computed the same; nothing if it was not asked to.
    verified: Option<bool>,
    xdma_ko: kernel_driver::Cost,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (points, scalars) = inputs(&options)?;
    ensure!(
        points.len() == scalars.len(),
        "{} points and {} scalars: an MSM takes as many of one as of the other",
        points.len(),
        scalars.len()
    );
    let progress = ProgressBar::new(u64::from(options.repeat) + 1)
        .with_style(ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {pos}/{len} {msg}")?);
    progress.enable_steady_tick(Duration::from_millis(200));
    let report = run(&options, &points, &scalars, &progress);
    progress.finish_and_clear();
    let report = report?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    ensure!(report.verified != Some(false), "the card's sum is not the CPU's");
    Ok(())
}

fn inputs(options: &Options) -> Result<(Vec<G1Affine>, Vec<Fr>)> {
    match (&options.points, &options.scalars) {
        (Some(points), Some(scalars)) => {
            Ok((data::read_points(points)?, data::read_scalars(scalars, options.montgomery)?))
        }
        _ => {
            let (pairs, seed) = (options.pairs as usize, options.seed);
            Ok((data::random_points(pairs, seed), data::random_scalars(pairs, seed)))
        }
    }
}

fn run(options: &Options, points: &[G1Affine], scalars: &[Fr], progress: &ProgressBar) -> Result<Report> {
    progress.set_message("opening the card");
    let card = options.card.open()?;
    let name = options.card.describe(&card)?;
    let chunk = match options.chunk {
        None => None,
        Some(Chunk::Pairs(chunk)) => Some(chunk),
        Some(Chunk::All) => Some(u32::try_from(points.len().next_multiple_of(2)).context("too many pairs")?),
    };
    let limit = options.timeout.map_or(options.card.patience(), Duration::from_secs_f64);
    let ring = options.ring.map_or(Ring::Chain, Ring::from);
    progress.set_message("writing points and scalars");
    let mut feeder = Feeder::new(&card, options.mode, ring, chunk, options.wait, limit)?;
    feeder.load(points, scalars, options.montgomery)?;
    if feeder.is_stub() && !options.no_check {
        bail!("the design on this card computes no MSM (a stub core): add --no-check");
    }
    let (mut seconds, mut last) = (vec![], None);
    for number in 1..=options.repeat {
        progress.set_message(format!("{} pairs, run {number}", human::count(points.len() as u64)));
        let fed = feeder.run()?;
        seconds.push(fed.accepted);
        last = Some(fed);
        progress.inc(1);
    }
    let fed = last.context("it ran at least once")?;
    progress.set_message("checking on the CPU");
    let verified = match options.no_check {
        true => None,
        false => Some(curve::result_to_point(&fed.output.bytes)? == data::cpu_msm(points, scalars)?),
    };
    let (pairs, chunk) = (points.len() as u64, feeder.chunk());
    Ok(Report {
        card: name,
        pairs,
        mode: options.mode.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default(),
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

fn print(report: &Report) {
    let Report { cost, xdma_ko, .. } = report;
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
        "  this driver  {} descriptors, {} doorbells, {} register writes, {} register reads, {} system calls",
        human::count(cost.descriptors),
        human::count(cost.doorbells),
        human::count(cost.register_writes),
        human::count(cost.register_reads),
        human::count(cost.system_calls)
    );
    println!(
        "  xdma.ko      {} descriptors, {} starts, {} pinned pages, {} calls of write()",
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
    println!(
        "  {}",
        match report.verified {
            Some(true) => "verified: the CPU (arkworks) computes the same point",
            Some(false) => "WRONG: the CPU (arkworks) computes another point",
            None => "not checked against the CPU, as asked",
        }
    );
}
