//! A real Groth16 proof, its G1 multi-scalar multiplications by the card, checked by arkworks' own verifier.
//!
//!     cargo run --release --example prove
//!     cargo run --release --example prove -- --depth 30 --proofs 3 --json

#[path = "../common/mod.rs"]
mod common;
mod groth16;

use anyhow::{Result, bail, ensure};
use ark_bn254::{Fr, G1Projective};
use ark_ec::AffineRepr;
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use common::kernel_driver::{self, Cost};
use common::{data, human};
use groth16::{Query, Setup};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::time::Instant;

/// Pairs a `write()` in the comparison: what provers use with FIFOs of 1,024.
const KERNEL_CHUNK: usize = 512;
/// Steps of a proof: its sums and the check.
const STEPS: u64 = Query::ALL.len() as u64 + 1;

/// Proves membership in a Semaphore group, with the proof's sums made on the card.
#[derive(Parser)]
struct Options {
    /// Levels of the group's tree (2^depth members).
    #[arg(long, default_value = "20", value_parser = PossibleValuesParser::new(["16", "20", "30"]).map(|d| d.parse::<usize>().unwrap_or_default()))]
    depth: usize,
    /// Proofs to make, one after the other, with the same key.
    #[arg(long, default_value_t = 1)]
    proofs: usize,
    /// The card; `cpu` lets the processor stand in.
    #[arg(long, env = "XDMA_CARD", default_value = "cpu")]
    card: String,
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
    pairs: usize,
    bytes: usize,
    seconds: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if options.card != "cpu" {
        bail!("no card {:?}: this program knows `cpu`", options.card);
    }
    let progress = ProgressBar::new(options.proofs as u64 * STEPS)
        .with_style(ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {pos}/{len} {msg}")?);
    progress.set_message("reading the key");
    let setup = Setup::read(options.depth)?;
    if !options.json {
        println!("group of 2^{} members; sums by {}", setup.depth, options.card);
    }
    let mut report = Report { card: options.card, depth: setup.depth, msms: vec![], proof_verified: true };
    for number in 0..options.proofs {
        report.proof_verified &= prove_once(&setup, number, options.json, &progress, &mut report.msms)?;
    }
    progress.finish_and_clear();
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    ensure!(report.proof_verified, "a proof was made and the verifier does not accept it: a sum was wrong");
    Ok(())
}

fn prove_once(
    setup: &Setup,
    number: usize,
    quiet: bool,
    progress: &ProgressBar,
    msms: &mut Vec<MsmReport>,
) -> Result<bool> {
    let start = Instant::now();
    progress.set_message("making the witness");
    let witness = setup.witness(number as u64)?;
    let first = msms.len();
    let mut msm = |query: Query, scalars: &[Fr]| -> Result<G1Projective> {
        progress.set_message(format!("sum {query:?}"));
        let points = setup.points(query);
        let start = Instant::now();
        let sum = data::cpu_msm(points, scalars)?;
        let (name, pairs) = (format!("{query:?}"), points.len());
        let seconds = start.elapsed().as_secs_f64();
        msms.push(MsmReport { name, proof: number, pairs, bytes: pairs * 96, seconds });
        progress.inc(1);
        Ok(sum.into_group())
    };
    let proved = groth16::prove(setup, &witness, groth16::blinding(), &mut msm)?;
    let made = start.elapsed().as_secs_f64();
    progress.set_message("verifying");
    let verified = setup.verify(&witness, &proved.proof)?;
    progress.inc(1);
    if !quiet {
        progress.suspend(|| {
            print_proof(number, &msms[first..]);
            println!(
                "  meanwhile on the CPU: scalars of H {}, the sum in G2 {}",
                human::seconds(proved.quotient_seconds),
                human::seconds(proved.g2_seconds)
            );
            let verdict = if verified { "verified" } else { "REJECTED by the verifier" };
            println!("  proof {verdict}; made in {}", human::seconds(made));
        });
    }
    Ok(verified)
}

fn print_proof(number: usize, msms: &[MsmReport]) {
    println!("proof {}", number + 1);
    let mut kernel = Cost::default();
    for msm in msms {
        println!(
            "  {:<3} {:>8} pairs  {:>10}  {:>9}",
            msm.name,
            human::count(msm.pairs as u64),
            human::bytes(msm.bytes as u64),
            human::seconds(msm.seconds)
        );
        kernel += kernel_driver::msm_feed(msm.pairs, KERNEL_CHUNK, 0);
    }
    println!(
        "  through xdma.ko the same data is {} write() calls, {} pinned pages, {} descriptors",
        human::count(kernel.calls),
        human::count(kernel.pinned_pages),
        human::count(kernel.descriptors)
    );
}
