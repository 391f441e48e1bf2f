//! Creates Groth16 proofs with a real proving key, by the published prover of arkworks. Its G1 sums (multi-scalar multiplications)
//! run on the card, and the stock verifier checks the proof.
//!
//!     cargo run --release --example prove
//!     cargo run --release --example prove -- --depth 30 --proofs 3 --overlap --json
//!
//! The proof shows that its creator is a member of a Semaphore group. A prover of your own needs three changes: the curve type, the
//! key's owner, and a context for the card; they are marked in the code. Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! sums of 1 or more pairs run on the card, as configured
//!
//! Proof 1
//!                                                    xdma.ko with write()
//!   points       pairs       data  where      waited |  calls  pages descr.
//!   h_query      8,192 768.00 KiB  card      61.11ms |     32    192    192
//!   l_query      5,574 522.56 KiB  card      44.87ms |     22    132    132
//!   a_query      5,578 522.94 KiB  card      44.20ms |     22    132    132
//!   b_g1_query   5,578 522.94 KiB  card      35.79ms |     22    132    132
//!   created in 280.79ms, verified by arkworks; 797.56 KiB copied, 98 descriptors, 4 doorbells
//! ```
//!
//! The columns on the right are the cost of the same data through the kernel's driver, calculated from its source code: calls of
//! `write()`, pages pinned and descriptors.

use anyhow::{Result, ensure};
use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::{Groth16, Proof, ProvingKey};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use semaphore_rs_ark_circom::CircomReduction;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use xdma_arkworks::groth16::{from_stock_key, stock_proof};
use xdma_arkworks::{CardBn254, Context, OnCard, Place, Sum};
use xdma_examples::card::CardArgs;
use xdma_examples::human;
use xdma_examples::kernel_driver::{self, KernelCost};
use xdma_examples::semaphore::{Circuit, CircuitArgs, Witness};
use xdma_examples::sums::SumArgs;

/// Pairs per chunk of a prover that calls `write()`: what the design's FIFOs hold.
const CHUNK: usize = 512;

/// Proves membership in a Semaphore group. The card computes the proof's sums in G1.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    circuit: CircuitArgs,
    /// Number of proofs to create, one after the other, with the same key.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    /// Begin sums before the prover asks for them, so that card and CPU work at the same time.
    #[arg(long)]
    overlap: bool,
    #[command(flatten)]
    sums: SumArgs,
    #[command(flatten)]
    card: CardArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
struct Report {
    card: String,
    depth: usize,
    crossover: Option<usize>,
    overlap: bool,
    proofs: Vec<ProofReport>,
}

#[derive(Serialize)]
struct ProofReport {
    sums: Vec<SumReport>,
    seconds: f64,
    verified: bool,
    /// Bytes of scalars that were copied to registered memory.
    bytes_copied: u64,
    descriptors: u64,
    doorbells: u64,
}

#[derive(Serialize)]
struct SumReport {
    points: &'static str,
    pairs: usize,
    /// Bytes of scalars and points, without padding.
    bytes: u64,
    place: &'static str,
    /// Seconds for which the prover waited.
    seconds: f64,
    /// Cost of the same data through the kernel's driver.
    xdma_ko: KernelCost,
}

impl SumReport {
    fn new(sum: &Sum) -> Self {
        let place = match sum.place {
            Place::Card => "card",
            Place::Small => "CPU: small",
            Place::OutOfService => "CPU: card out of service",
            _ => "CPU: card failed",
        };
        let xdma_ko = kernel_driver::msm_feed(sum.pairs, CHUNK, 0);
        let (pairs, seconds) = (sum.pairs, sum.time.as_secs_f64());
        Self { points: sum.bases, pairs, bytes: pairs as u64 * 96, place, seconds, xdma_ko }
    }
}

/// The sums since the last look.
type Sums = Arc<Mutex<Vec<SumReport>>>;

struct Prover {
    circuit: Circuit,
    context: Context,
    key: OnCard<ProvingKey<CardBn254>>,
    sums: Sums,
    overlap: bool,
}

impl Prover {
    fn prove(&self, witness: &Witness) -> Result<Proof<Bn254>> {
        let mut rng = rand_08::thread_rng();
        let (r, s) = (Fr::rand(&mut rng), Fr::rand(&mut rng));
        let (matrices, count) =
            (&self.circuit.constraints.matrices, self.circuit.constraints.num_constraints);
        let (key, inputs, assignment) = (&self.key, self.circuit.inputs(), &witness.assignment);
        let proof = if self.overlap {
            key.prove_matrices::<CircomReduction>([r, s], matrices, inputs, count, assignment)?
        } else {
            // The stock call, with another curve. Circom's keys need this reduction.
            Groth16::<CardBn254, CircomReduction>::create_proof_with_reduction_and_matrices(
                key, r, s, matrices, inputs, count, assignment,
            )?
        };
        Ok(stock_proof(proof))
    }

    fn report(&self, number: u32) -> Result<ProofReport> {
        let witness = self.circuit.witness(number.into())?;
        let (before, channel) = (self.context.stats(), self.context.channel_stats()?);
        let begin = Instant::now();
        let proof = self.prove(&witness)?;
        let seconds = begin.elapsed().as_secs_f64();
        let verified = self.circuit.verify(&witness, &proof)?;
        let (after, now) = (self.context.stats(), self.context.channel_stats()?);
        let sums = std::mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(ProofReport {
            sums,
            seconds,
            verified,
            bytes_copied: after.bytes_copied - before.bytes_copied,
            descriptors: now.descriptors - channel.descriptors,
            doorbells: now.doorbells - channel.doorbells,
        })
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let progress = ProgressBar::new(args.proofs.into())
        .with_style(ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {pos}/{len} {msg}")?);
    progress.set_message("opening the card");
    let card = args.card.open()?;
    let name = args.card.describe(&card)?;
    // Once per program: the card for sums.
    let context = args.sums.open(&args.card, &card)?;
    progress.set_message("reading the key");
    let (circuit, key) = args.circuit.read()?;
    // Once per key: its owner, which puts the points on the card.
    let key = OnCard::new(&context, from_stock_key(key))?;
    if !args.json {
        progress.suspend(|| println!("{name}\n{}", context.crossover()));
    }
    let sums = Sums::default();
    let seen = sums.clone();
    context.observe(move |sum| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(SumReport::new(sum));
    });
    let crossover = context.crossover().pairs();
    let prover = Prover { circuit, context, key, sums, overlap: args.overlap };
    let mut proofs = vec![];
    for number in 1..=args.proofs {
        progress.set_message("proving");
        let proof = prover.report(number)?;
        progress.inc(1);
        if !args.json {
            progress.suspend(|| print(number, &proof));
        }
        proofs.push(proof);
    }
    progress.finish_and_clear();
    let verified = proofs.iter().all(|proof| proof.verified);
    if args.json {
        let report =
            Report { card: name, depth: args.circuit.depth, crossover, overlap: args.overlap, proofs };
        println!("{}", serde_json::to_string(&report)?);
    }
    ensure!(verified, "the verifier rejected a proof: a result of the card was wrong");
    Ok(())
}

fn print(number: u32, proof: &ProofReport) {
    println!("\nProof {number}");
    println!("{:51}xdma.ko with write()", "");
    println!("  points       pairs       data  where      waited |  calls  pages descr.");
    for sum in &proof.sums {
        let kernel = &sum.xdma_ko;
        println!(
            "  {:<10} {:>7} {:>10}  {:<8} {:>8} | {:>6} {:>6} {:>6}",
            sum.points,
            human::count(sum.pairs as u64).to_string(),
            human::bytes(sum.bytes).to_string(),
            sum.place,
            human::seconds(sum.seconds),
            kernel.calls,
            human::count(kernel.pinned_pages).to_string(),
            human::count(kernel.descriptors).to_string(),
        );
    }
    println!(
        "  created in {}, {}; {} copied, {} descriptors, {} doorbells",
        human::seconds(proof.seconds),
        if proof.verified { "verified by arkworks" } else { "REJECTED by arkworks" },
        human::bytes(proof.bytes_copied),
        human::count(proof.descriptors),
        human::count(proof.doorbells)
    );
}
