//! Creates a Groth16 proof with a real proving key. The card computes its G1 multi-scalar multiplications (MSMs), the CPU does the
//! rest, and the verifier of arkworks checks the proof.
//!
//!     cargo run --release --example prove
//!     cargo run --release --example prove -- --depth 30 --proofs 3 --json
//!
//! The proof shows that its creator is a member of a Semaphore group. The output starts with a description of the card, followed by
//! a table for each proof:
//!
//! ```text
//! Proof 1, chunks of 512 pairs
//!                           this driver                                   xdma.ko with write()
//!   MSM   pairs       data | descr. doorb. writes  reads  calls     time | calls  pages descr.
//!     A   4,603 431.53 KiB |     18      1     12    117    298 163.47ms |    18    108    108
//!    B1   4,603 431.53 KiB |     18      1     12     91    235 107.45ms |    18    108    108
//!     L   4,598 431.06 KiB |     18      1     12    227    573 280.76ms |    18    108    108
//!     H   8,192 768.00 KiB |     32      1     12    379    940 544.34ms |    32    192    192
//!   on the CPU at the same time: scalars of H 370.71ms, MSM in G2 5.40s
//!   created in 5.83s, verified by arkworks
//! ```
//!
//! Each row is one MSM. The middle columns are measured: descriptors, doorbells, register writes (doorbells included), register
//! reads, system calls, and the time until the result. Most reads and system calls poll for the result over the socket of the
//! emulated card. The columns on the right are the cost of the same data through the kernel's driver, calculated from its source
//! code: calls of `write()`, pages pinned and descriptors.

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
use xdma_examples::human;
use xdma_examples::kernel_driver::{self, KernelCost};
use xdma_examples::proof_jobs::{KeyPoints, ProofJobs};

/// Time limit for an MSM. Those of these circuits take less, even on a slow machine that emulates the card.
const LIMIT: Duration = Duration::from_secs(120);
/// Progress steps of a proof: its MSMs and its verification.
const STEPS: u64 = Query::ALL.len() as u64 + 1;

/// Proves membership in a Semaphore group. The card computes the proof's MSMs in G1.
#[derive(Parser)]
struct Args {
    /// Depth of the group's tree, which has 2^depth members: 16, 20 or 30.
    #[arg(long, default_value = "20", value_parser = depth)]
    depth: usize,
    /// Number of proofs to create, one after the other, with the same key.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    #[command(flatten)]
    card: CardArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
struct ProofReport {
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
    /// Bytes of scalars and points, without padding.
    bytes: u64,
    #[serde(flatten)]
    cost: Cost,
    seconds: f64,
    /// Cost of the same data through the kernel's driver.
    xdma_ko: KernelCost,
}

/// The MSM client, and the jobs of a proof.
struct CardMsm {
    msm: Msm,
    jobs: ProofJobs,
}

impl CardMsm {
    fn new(card: &Card, setup: &Setup) -> Result<Self> {
        let msm = Msm::open(card, MsmOptions::default())?;
        let jobs = ProofJobs::new(&msm, &KeyPoints::new(card, setup)?, setup)?;
        Ok(Self { msm, jobs })
    }

    /// Computes one MSM on the card, and measures its cost.
    fn compute(&mut self, query: Query, scalars: &[Fr]) -> Result<(G1Projective, MsmReport)> {
        let chunk = self.msm.chunk() as usize;
        let job = self.jobs.job(query, scalars)?;
        let meter = Meter::start(self.msm.channel().stats());
        let ticket = self.msm.submit(job)?;
        let output = self.msm.wait(ticket, LIMIT)?;
        let (seconds, cost) = (meter.seconds(), meter.cost(self.msm.channel().stats()));
        let point = result_to_projective(&output.bytes).context("the card's result is not a point")?;
        let (name, pairs) = (format!("{query:?}"), u64::from(job.pairs()));
        let xdma_ko = kernel_driver::msm_feed(pairs as usize, chunk, 0);
        Ok((point, MsmReport { name, proof: 0, pairs, bytes: pairs * 96, cost, seconds, xdma_ko }))
    }
}

/// Parses the depth of the circuit, for which a proving key must exist.
fn depth(text: &str) -> Result<usize, String> {
    let known = text.parse().ok().filter(|depth| DEPTHS.contains(depth));
    known.ok_or_else(|| format!("the depth must be one of {DEPTHS:?}"))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let progress = ProgressBar::new(u64::from(args.proofs) * STEPS)
        .with_style(ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {pos}/{len} {msg}")?);
    progress.set_message("opening the card");
    let card = args.card.open()?;
    let name = args.card.describe(&card)?;
    progress.set_message("reading the key");
    let setup = Setup::read(args.depth)?;
    progress.set_message("writing the key's points");
    let mut card_msm = CardMsm::new(&card, &setup)?;
    if !args.json {
        progress.suspend(|| println!("{name}\n{}\nThe group has 2^{} members.", indent(&card), setup.depth));
    }
    let mut report = ProofReport { card: name, depth: setup.depth, msms: vec![], proof_verified: true };
    for number in 0..args.proofs as usize {
        report.proof_verified &=
            prove_once(&setup, &mut card_msm, number, args.json, &progress, &mut report.msms)?;
    }
    progress.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    ensure!(report.proof_verified, "the verifier rejected a proof: a result of the card was wrong");
    Ok(())
}

/// Returns the detailed description of the card, indented, without its first line.
fn indent(card: &Card) -> String {
    let text = card.report().map_or_else(|error| error.to_string(), |report| report.to_string());
    text.lines().skip(1).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn prove_once(
    setup: &Setup,
    card_msm: &mut CardMsm,
    number: usize,
    quiet: bool,
    progress: &ProgressBar,
    msms: &mut Vec<MsmReport>,
) -> Result<bool> {
    let start = Instant::now();
    progress.set_message("computing the witness");
    let witness = setup.witness(number as u64)?;
    let (first, chunk) = (msms.len(), card_msm.msm.chunk());
    let mut msm = |query: Query, scalars: &[Fr]| -> Result<G1Projective> {
        progress.set_message(format!("MSM {query:?}"));
        let (sum, report) = card_msm.compute(query, scalars)?;
        msms.push(MsmReport { proof: number, ..report });
        progress.inc(1);
        Ok(sum)
    };
    let proved = groth16::prove(setup, &witness, groth16::blinding(), &mut msm)?;
    let created = start.elapsed().as_secs_f64();
    progress.set_message("verifying");
    let verified = setup.verify(&witness, &proved.proof)?;
    progress.inc(1);
    if !quiet {
        progress.suspend(|| {
            print_proof(number, chunk, &msms[first..]);
            let (quotient, g2) = (human::seconds(proved.quotient_seconds), human::seconds(proved.g2_seconds));
            println!("  on the CPU at the same time: scalars of H {quotient}, MSM in G2 {g2}");
            let verdict = if verified { "verified by arkworks" } else { "REJECTED by arkworks" };
            println!("  created in {}, {verdict}", human::seconds(created));
        });
    }
    Ok(verified)
}

fn print_proof(number: usize, chunk: u32, msms: &[MsmReport]) {
    println!("\nProof {}, chunks of {chunk} pairs", number + 1);
    println!("{:26}{:46}xdma.ko with write()", "", "this driver");
    println!(
        "{:>5} {:>7} {:>10} | {:>6} {:>6} {:>6} {:>6} {:>6} {:>8} | {:>5} {:>6} {:>6}",
        "MSM",
        "pairs",
        "data",
        "descr.",
        "doorb.",
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
            "{:>5} {:>7} {:>10} | {:>6} {:>6} {:>6} {:>6} {:>6} {:>8} | {:>5} {:>6} {:>6}",
            msm.name,
            human::count(msm.pairs).to_string(),
            human::bytes(msm.bytes).to_string(),
            cost.descriptors,
            cost.doorbells,
            cost.register_writes,
            cost.register_reads,
            cost.system_calls,
            human::seconds(msm.seconds),
            kernel.calls,
            human::count(kernel.pinned_pages).to_string(),
            human::count(kernel.descriptors).to_string(),
        );
    }
}
