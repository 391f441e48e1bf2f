//! A real Groth16 proof, its G1 multi-scalar multiplications by the card, checked by arkworks' own verifier.
//!
//!     cargo run --release --example prove
//!     cargo run --release --example prove -- --depth 30 --proofs 3 --json

use anyhow::{Context, Result, ensure};
use ark_bn254::{Fr, G1Projective};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::time::{Duration, Instant};
use xdma::card::Card;
use xdma::msm::curve::arkworks::result_to_projective;
use xdma::msm::{Msm, MsmOptions};
use xdma_examples::card::{CardArgs, Cost, Meter};
use xdma_examples::groth16::{self, DEPTHS, Query, Setup};
use xdma_examples::sums::{KeyPoints, Lane};
use xdma_examples::{human, kernel_driver};

/// No sum of these circuits takes longer, on any machine that runs the emulated card.
const LIMIT: Duration = Duration::from_secs(120);
/// Steps of a proof: its sums and the check.
const STEPS: u64 = Query::ALL.len() as u64 + 1;

/// Proves membership in a Semaphore group, with the proof's sums made on the card.
#[derive(Parser)]
struct Options {
    /// Levels of the group's tree (2^depth members).
    #[arg(long, default_value = "20", value_parser = depth)]
    depth: usize,
    /// Proofs to make, one after the other, with the same key.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    #[command(flatten)]
    card: CardArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    card: String,
    depth: usize,
    msms: Vec<MsmReport>,
    proof_verified: bool,
}

#[derive(Serialize)]
struct MsmReport {
    name: String,
    proof: usize,
    pairs: u64,
    /// Of scalars and points; padding is left out.
    bytes: u64,
    #[serde(flatten)]
    cost: Cost,
    seconds: f64,
    /// What the same data costs through the kernel's driver.
    xdma_ko: kernel_driver::Cost,
}

/// The card, with a key's points.
struct Sums {
    msm: Msm,
    lane: Lane,
}

impl Sums {
    fn new(card: &Card, setup: &Setup) -> Result<Self> {
        let msm = Msm::open(card, MsmOptions::default())?;
        let lane = Lane::new(&msm, &KeyPoints::new(card, setup)?, setup)?;
        Ok(Self { msm, lane })
    }

    /// One of the sums, and what it took.
    fn sum(&mut self, query: Query, scalars: &[Fr]) -> Result<(G1Projective, MsmReport)> {
        let chunk = self.msm.chunk() as usize;
        let job = self.lane.job(query, scalars)?;
        let meter = Meter::start(self.msm.channel().stats());
        let ticket = self.msm.submit(job)?;
        let output = self.msm.wait(ticket, LIMIT)?;
        let (seconds, cost) = (meter.seconds(), meter.cost(self.msm.channel().stats()));
        let point = result_to_projective(&output.bytes).context("the card's result is no point")?;
        let (name, pairs) = (format!("{query:?}"), u64::from(job.pairs()));
        let xdma_ko = kernel_driver::msm_feed(pairs as usize, chunk, 0);
        Ok((point, MsmReport { name, proof: 0, pairs, bytes: pairs * 96, cost, seconds, xdma_ko }))
    }
}

/// One of the depths that there are keys for.
fn depth(text: &str) -> Result<usize, String> {
    let known = text.parse().ok().filter(|depth| DEPTHS.contains(depth));
    known.ok_or_else(|| format!("there are keys for depths {DEPTHS:?} only"))
}

fn main() -> Result<()> {
    let options = Options::parse();
    let progress = ProgressBar::new(u64::from(options.proofs) * STEPS)
        .with_style(ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {pos}/{len} {msg}")?);
    progress.set_message("opening the card");
    let card = options.card.open()?;
    let name = options.card.describe(&card)?;
    progress.set_message("reading the key");
    let setup = Setup::read(options.depth)?;
    progress.set_message("writing the key's points");
    let mut sums = Sums::new(&card, &setup)?;
    if !options.json {
        progress.suspend(|| println!("{name}\n{}\nA group of 2^{} members.", indent(&card), setup.depth));
    }
    let mut report = Report { card: name, depth: setup.depth, msms: vec![], proof_verified: true };
    for number in 0..options.proofs as usize {
        report.proof_verified &=
            prove_once(&setup, &mut sums, number, options.json, &progress, &mut report.msms)?;
    }
    progress.finish_and_clear();
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    ensure!(report.proof_verified, "a proof was made and the verifier does not accept it: a sum was wrong");
    Ok(())
}

fn indent(card: &xdma::card::Card) -> String {
    let text = card.report().map_or_else(|error| error.to_string(), |report| report.to_string());
    text.lines().skip(1).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn prove_once(
    setup: &Setup,
    sums: &mut Sums,
    number: usize,
    quiet: bool,
    progress: &ProgressBar,
    msms: &mut Vec<MsmReport>,
) -> Result<bool> {
    let start = Instant::now();
    progress.set_message("making the witness");
    let witness = setup.witness(number as u64)?;
    let (first, chunk) = (msms.len(), sums.msm.chunk());
    let mut msm = |query: Query, scalars: &[Fr]| -> Result<G1Projective> {
        progress.set_message(format!("sum {query:?}"));
        let (sum, report) = sums.sum(query, scalars)?;
        msms.push(MsmReport { proof: number, ..report });
        progress.inc(1);
        Ok(sum)
    };
    let proved = groth16::prove(setup, &witness, groth16::blinding(), &mut msm)?;
    let made = start.elapsed().as_secs_f64();
    progress.set_message("verifying");
    let verified = setup.verify(&witness, &proved.proof)?;
    progress.inc(1);
    if !quiet {
        progress.suspend(|| {
            print_proof(number, chunk, &msms[first..]);
            let (quotient, g2) = (human::seconds(proved.quotient_seconds), human::seconds(proved.g2_seconds));
            println!("  meanwhile on the CPU: scalars of H {quotient}, the sum in G2 {g2}");
            let verdict = if verified { "verified by arkworks" } else { "REJECTED by arkworks" };
            println!("  made in {}, {verdict}", human::seconds(made));
        });
    }
    Ok(verified)
}

fn print_proof(number: usize, chunk: u32, msms: &[MsmReport]) {
    println!("\nProof {}, chunks of {chunk} pairs", number + 1);
    println!("{:43}by this driver {:>39}", "", "by xdma.ko with write()");
    println!(
        "{:>5} {:>7} {:>9} | {:>6} {:>5} {:>6} {:>6} {:>6} {:>8} | {:>5} {:>6} {:>6}",
        "sum",
        "pairs",
        "data",
        "descr.",
        "bells",
        "writes",
        "reads",
        "calls",
        "time",
        "calls",
        "pages",
        "descr."
    );
    for msm in msms {
        let (cost, kernel) = (&msm.cost, &msm.xdma_ko);
        println!(
            "{:>5} {:>7} {:>9} | {:>6} {:>5} {:>6} {:>6} {:>6} {:>8} | {:>5} {:>6} {:>6}",
            msm.name,
            human::count(msm.pairs),
            human::bytes(msm.bytes),
            cost.descriptors,
            cost.doorbells,
            cost.register_writes,
            cost.register_reads,
            cost.system_calls,
            human::seconds(msm.seconds),
            kernel.calls,
            human::count(kernel.pinned_pages),
            human::count(kernel.descriptors),
        );
    }
}
