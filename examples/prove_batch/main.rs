//! Many proofs: while one MSM is being reduced the next is streaming, and the CPU makes the rest of other proofs meanwhile.
//!
//!     cargo run --release --example prove_batch -- --proofs 100
//!
//! Each worker makes a proof at a time, as `prove` does, with scalars and programs of its own; all share the card and the key's
//! points. A job that a worker submits while that of another is on the card streams as soon as the channel is free.

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
use xdma::msm::{Job, JobTicket, Msm, MsmError, MsmOptions};
use xdma_examples::card::CardArgs;
use xdma_examples::first::FirstError;
use xdma_examples::groth16::{self, DEPTHS, Query, Setup};
use xdma_examples::human;
use xdma_examples::sums::{KeyPoints, Lane};

/// No sum of these circuits takes longer, on any machine that runs the emulated card, all workers' together.
const LIMIT: Duration = Duration::from_secs(300);
/// Between two looks for a result.
const PAUSE: Duration = Duration::from_micros(100);

/// Makes many proofs of membership in a Semaphore group, with their sums made on the card.
#[derive(Parser)]
pub struct Options {
    /// Levels of the group's tree (2^depth members).
    #[arg(long, default_value = "16", value_parser = depth)]
    depth: usize,
    /// Proofs to make, with the same key.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    proofs: u32,
    /// Proofs under way at a time, each with at most one MSM on the card. The design queues two.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    workers: u32,
    #[command(flatten)]
    card: CardArgs,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// One of the depths that there are keys for.
fn depth(text: &str) -> Result<usize, String> {
    let known = text.parse().ok().filter(|depth| DEPTHS.contains(depth));
    known.ok_or_else(|| format!("there are keys for depths {DEPTHS:?} only"))
}

/// What is printed.
#[derive(Serialize)]
pub struct Report {
    card: String,
    depth: usize,
    workers: u32,
    /// Proofs that arkworks verified.
    pub verified: u32,
    seconds: f64,
    proofs_per_second: f64,
    pub msms: u64,
    /// MSMs that were submitted while another was on the card.
    pub overlapped: u64,
    bytes: u64,
    doorbells: u64,
}

/// What the workers share.
struct Batch {
    setup: Setup,
    msm: Mutex<Msm>,
    proofs: u32,
    next: AtomicU32,
    msms: AtomicU64,
    overlapped: AtomicU64,
    progress: ProgressBar,
    first: FirstError,
}

impl Batch {
    /// Makes proofs until there are enough of them, or one is wrong; how many.
    fn work(&self, mut lane: Lane) -> u32 {
        let mut verified = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.proofs {
                return verified;
            }
            match self.prove(&mut lane, number) {
                Ok(()) => verified += 1,
                Err(error) => {
                    self.first.set(error);
                    // The others need not go on.
                    self.next.store(self.proofs, Ordering::Relaxed);
                }
            }
        }
    }

    fn prove(&self, lane: &mut Lane, number: u32) -> Result<()> {
        let witness = self.setup.witness(number.into())?;
        let mut msm = |query: Query, scalars: &[Fr]| self.sum(lane, query, scalars);
        let proved = groth16::prove(&self.setup, &witness, groth16::blinding(), &mut msm)?;
        let accepted = self.setup.verify(&witness, &proved.proof)?;
        ensure!(accepted, "the verifier does not accept proof {number}: a sum was wrong");
        self.progress.inc(1);
        Ok(())
    }

    /// One of a proof's sums. The client is locked for moments only, so that others can submit and look meanwhile.
    fn sum(&self, lane: &mut Lane, query: Query, scalars: &[Fr]) -> Result<G1Projective> {
        let ticket = self.submit(lane.job(query, scalars)?)?;
        let begin = Instant::now();
        loop {
            // Any poll moves all jobs on: it starts the next stream, and keeps results for those who ask later.
            if let Some(output) = self.msm().poll(ticket)? {
                return result_to_projective(&output.bytes).context("the card's result is no point");
            }
            // Its error is the one that is reported: this job may be lost with that one.
            ensure!(!self.first.is_set(), "another worker failed");
            if begin.elapsed() > LIMIT {
                self.msm().wait(ticket, Duration::ZERO)?;
            }
            self.msm().look()?;
            thread::sleep(PAUSE);
        }
    }

    /// Submits a job, once the design has room for it.
    fn submit(&self, job: &Job) -> Result<JobTicket> {
        let begin = Instant::now();
        loop {
            let mut msm = self.msm();
            let others = msm.in_flight() > 0;
            match msm.submit(job) {
                // Those whose jobs these are poll them.
                Err(MsmError::Busy { .. }) if begin.elapsed() < LIMIT => {}
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
    let options = Options::parse();
    print(&run(&options)?, options.json)
}

pub fn run(options: &Options) -> Result<Report> {
    let card = options.card.open()?;
    let name = options.card.describe(&card)?;
    let setup = Setup::read(options.depth)?;
    let msm = Msm::open(&card, MsmOptions::default())?;
    let points = KeyPoints::new(&card, &setup)?;
    let lanes = (0..options.workers).map(|_| Lane::new(&msm, &points, &setup)).collect::<Result<Vec<_>>>()?;
    let template = "{elapsed:>4} [{bar:40}] {pos}/{len} proofs, {per_sec}, {eta} left";
    let progress =
        ProgressBar::new(options.proofs.into()).with_style(ProgressStyle::with_template(template)?);
    progress.enable_steady_tick(Duration::from_millis(200));
    if !options.json {
        progress.suspend(|| println!("{name}\nA group of 2^{} members.", setup.depth));
    }
    let (next, msms, overlapped) = (AtomicU32::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let first = FirstError::default();
    let batch = Batch {
        setup,
        msm: Mutex::new(msm),
        proofs: options.proofs,
        next,
        msms,
        overlapped,
        progress,
        first,
    };
    let begin = Instant::now();
    let verified: u32 = thread::scope(|scope| {
        let workers: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(|| batch.work(lane))).collect();
        let made = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        made.sum()
    });
    let seconds = begin.elapsed().as_secs_f64();
    batch.progress.finish_and_clear();
    batch.first.take()?;
    let stats = batch.msm().channel().stats();
    Ok(Report {
        card: name,
        depth: batch.setup.depth,
        workers: options.workers,
        verified,
        seconds,
        proofs_per_second: f64::from(verified) / seconds,
        msms: batch.msms.load(Ordering::Relaxed),
        overlapped: batch.overlapped.load(Ordering::Relaxed),
        bytes: stats.bytes,
        doorbells: stats.doorbells,
    })
}

fn print(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    println!(
        "{} proofs verified by arkworks in {}, {:.2} a second",
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
