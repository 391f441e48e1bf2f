//! A service loop: several threads share one card, or several, and create many proofs with one key. While the cards compute the MSMs of
//! one proof, the CPU works on another one.
//!
//!     cargo run --release --example prove_batch -- --proofs 100
//!     cargo run --release --example prove_batch -- --cards 8
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! MSMs of 1 or more pairs run on the card, as configured
//! 100 proofs verified by arkworks in 11.87s, 8.43 per second
//!   latency: p50 237.18ms, p90 265.98ms, p99 289.02ms, max 298.75ms
//!   400 MSMs on the card, 300 of them started early, 0 on the CPU; 42.02 MiB of scalars copied
//! ```

use anyhow::{Context as _, Result, ensure};
use ark_bn254::Fr;
use ark_ff::UniformRand;
use ark_groth16::ProvingKey;
use clap::Parser;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use semaphore_rs_ark_circom::CircomReduction;
use serde::Serialize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use xdma_arkworks::groth16::{from_bn254_key, into_bn254_proof};
use xdma_arkworks::{CardBn254, OnCard};
use xdma_cards::CardStatus;
use xdma_examples::card::CardsArgs;
use xdma_examples::first_error::FirstError;
use xdma_examples::human;
use xdma_examples::msm_args::MsmArgs;
use xdma_examples::semaphore::{Circuit, CircuitArgs};

/// Creates many proofs of membership in a Semaphore group and prints their latencies.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    circuit: CircuitArgs,
    /// Number of proofs to create, all with the same key.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    /// Number of threads. Each one creates one proof at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    #[command(flatten)]
    msm: MsmArgs,
    #[command(flatten)]
    cards: CardsArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
pub struct BatchReport {
    pub cards: Vec<CardReport>,
    depth: usize,
    crossover: Option<usize>,
    workers: u32,
    /// Number of proofs that the stock verifier accepted.
    pub verified: u32,
    seconds: f64,
    proofs_per_second: f64,
    /// Seconds per proof, from computing the witness to verifying the proof.
    pub latency: Latency,
    pub msms_on_card: u64,
    pub msms_started_early: u64,
    pub msms_on_cpu: u64,
    bytes_copied: u64,
}

/// What one card has done.
#[derive(Serialize)]
pub struct CardReport {
    card: String,
    /// Number of MSMs, or parts of MSMs, that it computed.
    pub parts: u64,
    pairs: u64,
    failures: u64,
}

#[derive(Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    fn from_histogram(histogram: &Histogram<u64>) -> Self {
        let seconds = |microseconds: u64| Duration::from_micros(microseconds).as_secs_f64();
        let at = |quantile| seconds(histogram.value_at_quantile(quantile));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: seconds(histogram.max()) }
    }
}

/// Data that the workers share.
struct Service {
    circuit: Circuit,
    key: OnCard<ProvingKey<CardBn254>>,
    proofs: u32,
    next: AtomicU32,
    progress: ProgressBar,
    first_error: FirstError,
}

impl Service {
    /// Creates proofs until all are created or one fails. Returns the latencies in microseconds.
    fn run_worker(&self) -> Result<Histogram<u64>> {
        let mut latencies = Histogram::new(3)?;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.proofs {
                return Ok(latencies);
            }
            let begin = Instant::now();
            match self.prove(number) {
                Ok(()) => latencies.record(begin.elapsed().as_micros() as u64)?,
                Err(error) => {
                    self.first_error.set(error);
                    // Stop the other workers.
                    self.next.store(self.proofs, Ordering::Relaxed);
                }
            }
        }
    }

    fn prove(&self, number: u32) -> Result<()> {
        let witness = self.circuit.witness(number.into())?;
        let mut rng = rand_08::thread_rng();
        let blinding = [Fr::rand(&mut rng), Fr::rand(&mut rng)];
        let constraints = &self.circuit.constraints;
        let proof = self.key.prove_with_matrices::<CircomReduction>(
            blinding,
            &constraints.matrices,
            self.circuit.input_count(),
            constraints.num_constraints,
            &witness.assignment,
        )?;
        let accepted = self.circuit.verify(&witness, &into_bn254_proof(proof))?;
        ensure!(accepted, "the verifier rejected proof {number}");
        self.progress.inc(1);
        Ok(())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    print(&run(&args)?, args.json)
}

pub fn run(args: &Args) -> Result<BatchReport> {
    let (names, context) = args.msm.open_cards(&args.cards)?;
    let (circuit, key) = args.circuit.read()?;
    let key = OnCard::new(&context, from_bn254_key(key))?;
    let template = "{elapsed:>4} [{bar:20}] {pos}/{len} proofs, {per_sec}, {eta} left";
    let progress = ProgressBar::new(args.proofs.into()).with_style(ProgressStyle::with_template(template)?);
    progress.enable_steady_tick(Duration::from_millis(200));
    if !args.json {
        progress.suspend(|| println!("{}\n{}", names.join("\n"), context.crossover()));
    }
    let (next, first_error) = (AtomicU32::new(0), FirstError::default());
    let service = Service { circuit, key, proofs: args.proofs, next, progress, first_error };
    let begin = Instant::now();
    let mut latencies = Histogram::new(3)?;
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..args.workers).map(|_| scope.spawn(|| service.run_worker())).collect();
        for worker in workers {
            latencies.add(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)?;
        }
        Ok(())
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    service.progress.finish_and_clear();
    service.first_error.into_result()?;
    let verified = u32::try_from(latencies.len()).context("more proofs than requested")?;
    let stats = context.stats();
    let cards = names.into_iter().zip(context.cards().status());
    let report = |(card, status): (_, CardStatus)| CardReport {
        card,
        parts: status.parts,
        pairs: status.pairs,
        failures: status.failures + status.wrong_results,
    };
    Ok(BatchReport {
        cards: cards.map(report).collect(),
        depth: args.circuit.depth,
        crossover: context.crossover().min_pairs(),
        workers: args.workers,
        verified,
        seconds,
        proofs_per_second: f64::from(verified) / seconds,
        latency: Latency::from_histogram(&latencies),
        msms_on_card: stats.on_card,
        msms_started_early: stats.started_early,
        msms_on_cpu: stats.below_crossover + stats.cpu_fallbacks + stats.out_of_service,
        bytes_copied: stats.bytes_copied,
    })
}

fn print(report: &BatchReport, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    println!(
        "{} proofs verified by arkworks in {}, {:.2} per second",
        human::count(report.verified.into()),
        human::seconds(report.seconds),
        report.proofs_per_second
    );
    let Latency { p50, p90, p99, max } = report.latency;
    let [p50, p90, p99, max] = [p50, p90, p99, max].map(human::seconds);
    println!("  latency: p50 {p50}, p90 {p90}, p99 {p99}, max {max}");
    println!(
        "  {} MSMs on the card, {} of them started early, {} on the CPU; {} of scalars copied",
        human::count(report.msms_on_card),
        human::count(report.msms_started_early),
        human::count(report.msms_on_cpu),
        human::bytes(report.bytes_copied)
    );
    if report.cards.len() > 1 {
        for (at, CardReport { parts, pairs, failures, .. }) in report.cards.iter().enumerate() {
            let [parts, pairs, failures] = [parts, pairs, failures].map(|count| human::count(*count));
            println!("  card {at}: {parts} MSMs or parts, {pairs} pairs, {failures} failures");
        }
    }
    Ok(())
}
