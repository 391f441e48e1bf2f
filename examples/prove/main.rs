//! Creates Groth16 proofs with a real proving key and the published prover of arkworks. The prover's G1 MSMs (multi-scalar
//! multiplications) run on the card, and the stock verifier checks the proof.
//!
//!     cargo run --release --example prove
//!     cargo run --release --example prove -- --depth 30 --proofs 3 --overlap --json
//!
//! The proof shows that its creator is a member of a Semaphore group. Your own prover needs three changes: the curve type, a
//! context for the card, and an `OnCard` that owns the key. Comments in the code mark them. Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! MSMs of 1 or more pairs run on the card, as configured
//!
//! Proof 1
//!                                                    xdma.ko with write()
//!   points       pairs       data  where      waited |  calls  pages descr.
//!   h_query      8,192 768.00 KiB  card      30.39ms |     32    192    192
//!   l_query      5,574 522.56 KiB  card      20.07ms |     22    132    132
//!   a_query      5,578 522.94 KiB  card      21.80ms |     22    132    132
//!   b_g1_query   5,578 522.94 KiB  card      19.08ms |     22    132    132
//!   created in 146.80ms, verified by arkworks; 778.81 KiB copied, 98 descriptors, 4 doorbells
//! ```
//!
//! The columns on the right show the cost of sending the same data through the kernel's driver, calculated from its source code:
//! calls of `write()`, pinned pages, and descriptors.

use anyhow::{Context as _, Result, ensure};
use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::{Groth16, Proof, ProvingKey};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use semaphore_rs_ark_circom::CircomReduction;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use xdma::channel::Stats;
use xdma_arkworks::groth16::{from_bn254_key, into_bn254_proof};
use xdma_arkworks::{CardBn254, ComputedOn, Context, MsmReport, OnCard};
use xdma_examples::card::CardArgs;
use xdma_examples::human;
use xdma_examples::kernel_driver::{self, KernelCost};
use xdma_examples::msm_args::MsmArgs;
use xdma_examples::semaphore::{Circuit, CircuitArgs, Witness};

/// Number of scalars or points that a prover sends with one `write()` through the kernel's driver: a chunk of the MSM client.
const PAIRS_PER_WRITE: usize = 512;

/// Proves membership in a Semaphore group. The G1 MSMs of the proof run on the card.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    circuit: CircuitArgs,
    /// Number of proofs to create, one after the other, with the same key.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    /// Start MSMs before the prover requests them, so that the card and the CPU work at the same time.
    #[arg(long)]
    overlap: bool,
    #[command(flatten)]
    msm: MsmArgs,
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
    msms: Vec<MsmRow>,
    seconds: f64,
    verified: bool,
    /// Bytes of scalars that were copied to DMA memory.
    bytes_copied: u64,
    descriptors: u64,
    doorbells: u64,
}

#[derive(Serialize)]
struct MsmRow {
    points: &'static str,
    pairs: usize,
    /// Bytes of scalars and points, without padding.
    bytes: u64,
    computed_on: &'static str,
    /// Seconds that the prover waited for the result.
    seconds: f64,
    /// Cost of sending the same data through the kernel's driver.
    xdma_ko: KernelCost,
}

impl MsmRow {
    fn new(msm: &MsmReport) -> Self {
        let computed_on = match msm.computed_on {
            ComputedOn::Card => "card",
            ComputedOn::CpuBelowCrossover => "CPU: below crossover",
            ComputedOn::CpuOutOfService => "CPU: card out of service",
            _ => "CPU: card failed",
        };
        let xdma_ko = kernel_driver::msm_feed(msm.pairs, PAIRS_PER_WRITE, 0);
        let (pairs, seconds) = (msm.pairs, msm.time.as_secs_f64());
        Self { points: msm.bases, pairs, bytes: pairs as u64 * 96, computed_on, seconds, xdma_ko }
    }
}

/// The MSMs of the current proof.
type MsmRows = Arc<Mutex<Vec<MsmRow>>>;

struct Prover {
    circuit: Circuit,
    context: Context,
    key: OnCard<ProvingKey<CardBn254>>,
    msms: MsmRows,
    overlap: bool,
}

impl Prover {
    fn prove(&self, witness: &Witness) -> Result<Proof<Bn254>> {
        let mut rng = rand_08::thread_rng();
        let (r, s) = (Fr::rand(&mut rng), Fr::rand(&mut rng));
        let (matrices, count) =
            (&self.circuit.constraints.matrices, self.circuit.constraints.num_constraints);
        let (key, input_count, assignment) = (&self.key, self.circuit.input_count(), &witness.assignment);
        let proof = if self.overlap {
            key.prove_with_matrices::<CircomReduction>([r, s], matrices, input_count, count, assignment)?
        } else {
            // The stock call, with `CardBn254` instead of `Bn254`. Keys of circom require this reduction.
            Groth16::<CardBn254, CircomReduction>::create_proof_with_reduction_and_matrices(
                key,
                r,
                s,
                matrices,
                input_count,
                count,
                assignment,
            )?
        };
        Ok(into_bn254_proof(proof))
    }

    /// Returns the statistics of the channel that sends points and scalars.
    fn channel(&self) -> Result<Stats> {
        self.context.cards().h2c_stats(0).context("the card is not open")
    }

    fn report(&self, number: u32) -> Result<ProofReport> {
        let witness = self.circuit.witness(number.into())?;
        let (before, channel) = (self.context.stats(), self.channel()?);
        let begin = Instant::now();
        let proof = self.prove(&witness)?;
        let seconds = begin.elapsed().as_secs_f64();
        let verified = self.circuit.verify(&witness, &proof)?;
        let (after, now) = (self.context.stats(), self.channel()?);
        let msms = std::mem::take(&mut *self.msms.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(ProofReport {
            msms,
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
        .with_style(ProgressStyle::with_template("{elapsed:>4} [{bar:20}] {pos}/{len} {msg}")?);
    progress.set_message("opening the card");
    let card = args.card.open()?;
    let name = args.card.describe(&card)?;
    // Once per program: open the context.
    let context = args.msm.open(&args.card, &card)?;
    progress.set_message("reading the key");
    let (circuit, key) = args.circuit.read()?;
    // Once per key: register its points.
    let key = OnCard::new(&context, from_bn254_key(key))?;
    if !args.json {
        progress.suspend(|| println!("{name}\n{}", context.crossover()));
    }
    let msms = MsmRows::default();
    let rows = msms.clone();
    context.set_observer(move |msm| {
        rows.lock().unwrap_or_else(PoisonError::into_inner).push(MsmRow::new(msm));
    });
    let crossover = context.crossover().min_pairs();
    let prover = Prover { circuit, context, key, msms, overlap: args.overlap };
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
    ensure!(verified, "the verifier rejected a proof: the card returned a wrong result");
    Ok(())
}

fn print(number: u32, proof: &ProofReport) {
    println!("\nProof {number}");
    println!("{:51}xdma.ko with write()", "");
    println!("  points       pairs       data  where      waited |  calls  pages descr.");
    for msm in &proof.msms {
        let kernel = &msm.xdma_ko;
        println!(
            "  {:<10} {:>7} {:>10}  {:<8} {:>8} | {:>6} {:>6} {:>6}",
            msm.points,
            human::count(msm.pairs as u64).to_string(),
            human::bytes(msm.bytes).to_string(),
            msm.computed_on,
            human::seconds(msm.seconds),
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
