//! Creates many proofs in parallel, to keep the card busy: while the design reduces one MSM, the data of the next is sent, and the
//! CPU works on the rest of other proofs.
//!
//!     cargo run --release --example prove_batch -- --proofs 100
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! The group has 2^16 members.
//! 4 proofs verified by arkworks in 17.22s, 0.23 per second
//!   16 MSMs, 12 of them submitted while another was on the card; 8.06 MiB sent with 16 doorbells
//! ```
//!
//! Each worker thread creates one proof at a time, as the example `prove` does. The workers share the card, its MSM client and the
//! points of the key; each has its own scalars and prepared jobs. If a worker submits a job while another job is on the card, its
//! data is sent as soon as the channel is free.

use anyhow::{Context, Result, ensure};
use ark_bn254::{Fr, G1Projective};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use xdma::msm::curve::arkworks::result_to_projective;
use xdma::msm::{Job, JobTicket, Msm, MsmOptions, MsmSubmitError};
use xdma_examples::card::CardArgs;
use xdma_examples::first_error::FirstError;
use xdma_examples::groth16::{self, DEPTHS, Query, Setup};
use xdma_examples::human;
use xdma_examples::proof_jobs::{KeyPoints, ProofJobs};

/// Time limit for an MSM, including the time in which the card computes those of other workers.
const LIMIT: Duration = Duration::from_secs(300);
/// Interval between two polls for a result.
const PAUSE: Duration = Duration::from_micros(100);

/// Creates many proofs of membership in a Semaphore group. The card computes their MSMs in G1.
#[derive(Parser)]
pub struct Args {
    /// Depth of the group's tree, which has 2^depth members: 16, 20 or 30.
    #[arg(long, default_value = "16", value_parser = depth)]
    depth: usize,
    /// Number of proofs to create, all with the same key.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    /// Number of proofs in progress at a time, each with at most one MSM on the card. The design queues two.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    workers: u32,
    #[command(flatten)]
    card: CardArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Parses a depth for which there is a key.
fn depth(text: &str) -> Result<usize, String> {
    let known = text.parse().ok().filter(|depth| DEPTHS.contains(depth));
    known.ok_or_else(|| format!("the depth must be one of {DEPTHS:?}"))
}

/// The output of `--json`.
#[derive(Serialize)]
pub struct BatchReport {
    card: String,
    depth: usize,
    workers: u32,
    /// Number of proofs that arkworks verified.
    pub verified: u32,
    seconds: f64,
    proofs_per_second: f64,
    pub msms: u64,
    /// Number of MSMs that were submitted while another was on the card.
    pub overlapped: u64,
    bytes: u64,
    doorbells: u64,
}

/// Data that the workers share.
struct Batch {
    setup: Setup,
    msm: Mutex<Msm>,
    proofs: u32,
    next: AtomicU32,
    msms: AtomicU64,
    overlapped: AtomicU64,
    progress: ProgressBar,
    first_error: FirstError,
}

impl Batch {
    /// Creates proofs until all are done or one has failed. Returns the number of proofs that this worker created.
    fn run_worker(&self, mut jobs: ProofJobs) -> u32 {
        let mut verified = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.proofs {
                return verified;
            }
            match self.prove(&mut jobs, number) {
                Ok(()) => verified += 1,
                Err(error) => {
                    self.first_error.set(error);
                    // End the other workers.
                    self.next.store(self.proofs, Ordering::Relaxed);
                }
            }
        }
    }

    fn prove(&self, jobs: &mut ProofJobs, number: u32) -> Result<()> {
        let witness = self.setup.witness(number.into())?;
        let mut msm = |query: Query, scalars: &[Fr]| self.compute(jobs, query, scalars);
        let proved = groth16::prove(&self.setup, &witness, groth16::blinding(), &mut msm)?;
        let accepted = self.setup.verify(&witness, &proved.proof)?;
        ensure!(accepted, "the verifier rejected proof {number}: a result of the card was wrong");
        self.progress.inc(1);
        Ok(())
    }

    /// Computes one MSM on the card. The client is locked only for single calls, so that other workers can submit and poll in
    /// between.
    fn compute(&self, jobs: &mut ProofJobs, query: Query, scalars: &[Fr]) -> Result<G1Projective> {
        let ticket = self.submit(jobs.job(query, scalars)?)?;
        let begin = Instant::now();
        loop {
            // Each poll advances all jobs: it starts sending the next one, and stores the results of others until they are polled.
            if let Some(output) = self.msm().poll(ticket)? {
                return result_to_projective(&output.bytes).context("the card's result is not a point");
            }
            // The other worker's error is reported. This job may be lost because of it.
            ensure!(!self.first_error.is_set(), "another worker failed");
            if begin.elapsed() > LIMIT {
                self.msm().wait(ticket, Duration::ZERO)?;
            }
            self.msm().sample_counters()?;
            thread::sleep(PAUSE);
        }
    }

    /// Submits a job, as soon as the design's queue has space for it.
    fn submit(&self, job: &Job) -> Result<JobTicket> {
        let begin = Instant::now();
        loop {
            let mut msm = self.msm();
            let others = msm.in_flight() > 0;
            match msm.submit(job) {
                // The workers whose jobs are in the queue poll them.
                Err(MsmSubmitError::Busy { .. }) if begin.elapsed() < LIMIT => {}
                submitted => {
                    self.msms.fetch_add(1, Ordering::Relaxed);
                    self.overlapped.fetch_add(others.into(), Ordering::Relaxed);
                    return Ok(submitted?);
                }
            }
            drop(msm);
            thread::sleep(PAUSE);
        }
    }

    fn msm(&self) -> MutexGuard<'_, Msm> {
        self.msm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    print(&run(&args)?, args.json)
}

pub fn run(args: &Args) -> Result<BatchReport> {
    let card = args.card.open()?;
    let name = args.card.describe(&card)?;
    let setup = Setup::read(args.depth)?;
    let msm = Msm::open(&card, MsmOptions::default())?;
    let points = KeyPoints::new(&card, &setup)?;
    let jobs =
        (0..args.workers).map(|_| ProofJobs::new(&msm, &points, &setup)).collect::<Result<Vec<_>>>()?;
    let template = "{elapsed:>4} [{bar:40}] {pos}/{len} proofs, {per_sec}, {eta} left";
    let progress = ProgressBar::new(args.proofs.into()).with_style(ProgressStyle::with_template(template)?);
    progress.enable_steady_tick(Duration::from_millis(200));
    if !args.json {
        progress.suspend(|| println!("{name}\nThe group has 2^{} members.", setup.depth));
    }
    let (next, msms, overlapped) = (AtomicU32::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let first_error = FirstError::default();
    let batch = Batch {
        setup,
        msm: Mutex::new(msm),
        proofs: args.proofs,
        next,
        msms,
        overlapped,
        progress,
        first_error,
    };
    let begin = Instant::now();
    let verified: u32 = thread::scope(|scope| {
        let workers: Vec<_> = jobs.into_iter().map(|jobs| scope.spawn(|| batch.run_worker(jobs))).collect();
        let verified = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        verified.sum()
    });
    let seconds = begin.elapsed().as_secs_f64();
    batch.progress.finish_and_clear();
    let stats = batch.msm().channel().stats();
    batch.first_error.into_result()?;
    Ok(BatchReport {
        card: name,
        depth: batch.setup.depth,
        workers: args.workers,
        verified,
        seconds,
        proofs_per_second: f64::from(verified) / seconds,
        msms: batch.msms.load(Ordering::Relaxed),
        overlapped: batch.overlapped.load(Ordering::Relaxed),
        bytes: stats.bytes,
        doorbells: stats.doorbells,
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
    println!(
        "  {} MSMs, {} of them submitted while another was on the card; {} sent with {} doorbells",
        human::count(report.msms),
        human::count(report.overlapped),
        human::bytes(report.bytes),
        human::count(report.doorbells)
    );
    Ok(())
}
