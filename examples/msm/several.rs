//! One MSM on several cards.

use crate::{Args, FeedMode, show, verdict};
use anyhow::{Context, Result, ensure};
use ark_bn254::{Fr, G1Affine};
use ark_ec::CurveGroup;
use ark_ff::PrimeField;
use indicatif::ProgressBar;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::{BusError, Card};
use xdma::channel::{ChannelOptions, Ring};
use xdma::msm::{Design, MsmOptions};
use xdma::regs::msm::CORE_BUSY;
use xdma_cards::{CardSource, Cards, CardsOptions, Scalars};
use xdma_examples::{data, human};

/// Time limit of a sum, unless `--timeout` sets it. Each part has a deadline of its own.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// The output of `--json` for several cards.
#[derive(Serialize)]
struct SeveralReport {
    cards: Vec<CardReport>,
    pairs: u64,
    /// Bytes of scalars and points, without padding.
    bytes: u64,
    /// For each repetition, the seconds until its result was available.
    seconds: Vec<f64>,
    /// Whether the CPU computed the same point. `null` with `--no-check`.
    verified: Option<bool>,
}

/// What a card did in the last repetition.
#[derive(Serialize)]
struct CardReport {
    card: String,
    pairs: u64,
    /// Seconds that its thread needed: copying the scalars, computing, and checking.
    seconds: f64,
    /// Clock cycles in which its core was busy. On an emulated card, those that the design would need.
    core_cycles: u64,
    /// The clock of its design.
    clock_khz: u32,
}

/// Computes the MSM, and prints the report. Returns whether the CPU computed the same point.
pub fn run(
    args: &Args,
    points: Vec<G1Affine>,
    scalars: Vec<Fr>,
    progress: &ProgressBar,
) -> Result<Option<bool>> {
    let report = compute(args, points, scalars, progress);
    progress.finish_and_clear();
    let report = report?;
    show(args, &report, print)?;
    Ok(report.verified)
}

fn compute(
    args: &Args,
    points: Vec<G1Affine>,
    scalars: Vec<Fr>,
    progress: &ProgressBar,
) -> Result<SeveralReport> {
    ensure!(args.mode == FeedMode::Program, "with several cards, only `--mode program` is possible");
    progress.set_message("opening the cards");
    let opened = args.cards.open()?;
    let (names, handles): (Vec<String>, Vec<Card>) = opened.into_iter().unzip();
    let sources =
        handles.iter().enumerate().map(|(at, card)| CardSource::opened(at.to_string(), card.clone()));
    let cards = Cards::open(sources, options(args)?)?;
    progress.set_message("writing points");
    let (points, scalars): (Arc<[G1Affine]>, Arc<[Fr]>) = (points.into(), scalars.into());
    let bases = cards.register(Arc::clone(&points))?;
    let limit = args.timeout.map_or(LIMIT, Duration::from_secs_f64);
    let (mut seconds, mut last) = (vec![], None);
    for number in 1..=args.repeat {
        progress.set_message(format!("{} pairs, run {number}", human::count(points.len() as u64)));
        let before = handles.iter().map(core_cycles).collect::<Result<Vec<_>, _>>()?;
        let begin = Instant::now();
        let sum = cards.sum(&bases, &in_form(args, &scalars)?, limit)?;
        seconds.push(begin.elapsed().as_secs_f64());
        last = Some((sum, before));
        progress.inc(1);
    }
    let (sum, before) = last.context("there is at least one repetition")?;
    progress.set_message("checking on the CPU");
    let verified = match args.no_check {
        true => None,
        false => Some(sum.point.into_affine() == data::cpu_msm(&points, &scalars)?),
    };
    let mut parts: HashMap<&str, (u64, Duration)> = HashMap::new();
    for part in &sum.parts {
        let entry = parts.entry(&part.card).or_default();
        *entry = (entry.0 + part.pairs.len() as u64, entry.1 + part.time);
    }
    let reports = names.into_iter().zip(handles.iter().zip(before)).enumerate();
    let reports = reports.map(|(at, (card, (handle, before)))| {
        let (pairs, time) = parts.get(&*at.to_string()).copied().unwrap_or_default();
        let core_cycles = core_cycles(handle)? - before;
        let clock_khz = Design::of(handle)?.clock_khz;
        Ok(CardReport { card, pairs, seconds: time.as_secs_f64(), core_cycles, clock_khz })
    });
    Ok(SeveralReport {
        cards: reports.collect::<Result<_>>()?,
        pairs: points.len() as u64,
        bytes: points.len() as u64 * 96,
        seconds,
        verified,
    })
}

fn options(args: &Args) -> Result<CardsOptions> {
    let chunk = match args.chunk {
        None => None,
        Some(crate::Chunk::Pairs(chunk)) => Some(chunk),
        Some(crate::Chunk::All) => anyhow::bail!("with several cards, `--chunk all` is not possible"),
    };
    let channel = ChannelOptions { wait: args.wait, ..ChannelOptions::default() };
    let ring = args.ring.map(Ring::from);
    Ok(CardsOptions {
        // Even a small MSM is divided over all cards.
        min_part: 1,
        timeout_margin: args.cards.opening.timeout_margin(),
        msm: MsmOptions { ring, chunk, channel, ..MsmOptions::default() },
        ..CardsOptions::default()
    })
}

fn in_form(args: &Args, scalars: &Arc<[Fr]>) -> Result<Scalars> {
    Ok(match args.montgomery {
        true => Scalars::from_fr(Arc::clone(scalars)),
        false => {
            Scalars::from_canonical(scalars.iter().map(|scalar| scalar.into_bigint()).collect::<Vec<_>>())?
        }
    })
}

fn core_cycles(card: &Card) -> Result<u64> {
    let user = card.user()?;
    let read = |register| Ok::<u64, BusError>(user.read(register)?.into());
    // Reading the low half latches the high half.
    let low = read(CORE_BUSY)?;
    Ok(low | read(CORE_BUSY + 4)? << 32)
}

fn print(report: &SeveralReport) {
    println!(
        "{} pairs, {}, divided over {} cards",
        human::count(report.pairs),
        human::bytes(report.bytes),
        report.cards.len()
    );
    for (at, CardReport { card, pairs, seconds, core_cycles, clock_khz }) in report.cards.iter().enumerate() {
        println!(
            "  card {at}  {} pairs, {}, {} cycles of its core ({} at {} MHz); {card}",
            human::count(*pairs),
            human::seconds(*seconds),
            human::count(*core_cycles),
            human::seconds(*core_cycles as f64 / (f64::from((*clock_khz).max(1)) * 1e3)),
            clock_khz / 1000
        );
    }
    let last = report.seconds.last().copied().unwrap_or_default();
    println!(
        "  result after {} (run {} of {})",
        human::seconds(last),
        report.seconds.len(),
        report.seconds.len()
    );
    println!("  {}", verdict(report.verified));
}
