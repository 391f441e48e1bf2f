//! A service loop: many proofs of one key, by several threads that share the card. While the card computes the sums of one proof,
//! the CPU works on the rest of another.
//!
//!     cargo run --release --example prove_batch -- --proofs 100
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! sums of 1 or more pairs run on the card, as configured
//! 100 proofs verified by arkworks in 24.43s, 4.09 per second
//!   latency 50 %: 480.51ms, 90 %: 540.67ms, 99 %: 592.45ms, longest: 592.45ms
//!   400 sums on the card, 300 of them begun early, 0 on the CPU; 70.99 MiB of scalars copied
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
use xdma_arkworks::groth16::{from_stock_key, stock_proof};
use xdma_arkworks::{CardBn254, OnCard};
use xdma_examples::card::CardArgs;
use xdma_examples::first_error::FirstError;
use xdma_examples::human;
use xdma_examples::semaphore::{Circuit, CircuitArgs};
use xdma_examples::sums::SumArgs;

/// Creates many proofs of membership in a Semaphore group, and prints the latencies.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    circuit: CircuitArgs,
    /// Number of proofs to create, all with the same key.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    /// Number of threads, each with one proof at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
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
pub struct BatchReport {
    card: String,
    depth: usize,
    crossover: Option<usize>,
    workers: u32,
    /// Number of proofs that the stock verifier accepted.
    pub verified: u32,
    seconds: f64,
    proofs_per_second: f64,
    /// Seconds per proof, from the witness to the verified proof.
    pub latency: Latency,
    pub sums_on_card: u64,
    pub sums_begun_early: u64,
    pub sums_on_cpu: u64,
    bytes_copied: u64,
}

#[derive(Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub longest: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let seconds = |microseconds: u64| Duration::from_micros(microseconds).as_secs_f64();
        let at = |quantile| seconds(histogram.value_at_quantile(quantile));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), longest: seconds(histogram.max()) }
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
    /// Creates proofs until all are done or one has failed. Returns the latencies in microseconds.
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
                    // End the other workers.
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
        let proof = self.key.prove_matrices::<CircomReduction>(
            blinding,
            &constraints.matrices,
            self.circuit.inputs(),
            constraints.num_constraints,
            &witness.assignment,
        )?;
        let accepted = self.circuit.verify(&witness, &stock_proof(proof))?;
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
    let card = args.card.open()?;
    let name = args.card.describe(&card)?;
    let context = args.sums.open(&args.card, &card)?;
    let (circuit, key) = args.circuit.read()?;
    let key = OnCard::new(&context, from_stock_key(key))?;
    let template = "{elapsed:>4} [{bar:40}] {pos}/{len} proofs, {per_sec}, {eta} left";
    let progress = ProgressBar::new(args.proofs.into()).with_style(ProgressStyle::with_template(template)?);
    progress.enable_steady_tick(Duration::from_millis(200));
    if !args.json {
        progress.suspend(|| println!("{name}\n{}", context.crossover()));
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
    let verified = u32::try_from(latencies.len()).context("more proofs than were asked for")?;
    let stats = context.stats();
    Ok(BatchReport {
        card: name,
        depth: args.circuit.depth,
        crossover: context.crossover().pairs(),
        workers: args.workers,
        verified,
        seconds,
        proofs_per_second: f64::from(verified) / seconds,
        latency: Latency::of(&latencies),
        sums_on_card: stats.on_card,
        sums_begun_early: stats.early,
        sums_on_cpu: stats.small + stats.failed + stats.out_of_service,
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
    let Latency { p50, p90, p99, longest } = report.latency;
    let [p50, p90, p99, longest] = [p50, p90, p99, longest].map(human::seconds);
    println!("  latency 50 %: {p50}, 90 %: {p90}, 99 %: {p99}, longest: {longest}");
    println!(
        "  {} sums on the card, {} of them begun early, {} on the CPU; {} of scalars copied",
        human::count(report.sums_on_card),
        human::count(report.sums_begun_early),
        human::count(report.sums_on_cpu),
        human::bytes(report.bytes_copied)
    );
    Ok(())
}
