//! Computes sums over the cards of several hosts, and compares them with halo2curves on the CPU.
//!
//! If it is started by `mpirun`, Slurm or Kubernetes' MPI operator, every process is a rank with its own cards. Otherwise, it
//! is one rank.

mod args;
mod cards;
mod data;
mod fault;
mod output;

use anyhow::{Context, Result, ensure};
use args::Args;
use clap::Parser;
use data::Inputs;
use fault::Fault;
use output::Output;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing_subscriber::filter::LevelFilter;
use xdma_mpi::{Member, Options, Root, Worker};

fn main() -> ExitCode {
    // Parse the arguments before MPI is initialized, so that `--help` and usage errors need no other rank.
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_max_level(LevelFilter::WARN)
        .init();
    let deadline = Duration::from_secs_f64(args.deadline);
    let load_deadline = Duration::from_secs_f64(args.load_deadline);
    let idle_limit = Duration::from_secs_f64(args.idle_limit);
    let options = Options { deadline, load_deadline, idle_limit };
    xdma_mpi::run(options, |member| {
        fault::happen_at_start(args.fault_of(member.rank()));
        let result = match member {
            Member::Root(root) => compute(&args, root),
            Member::Worker(worker) => serve(&args, worker),
        };
        result.map_err(Into::into)
    })
}

fn serve(args: &Args, worker: Worker<'_>) -> Result<()> {
    let fault = args.fault_of(worker.rank());
    if fault == Some(Fault::Return) {
        return Ok(());
    }
    let rank = cards::open(args, worker.rank(), fault)?;
    let own_bases = args.own_bases.then(|| data::points(args.pairs, args.seed).into());
    worker.serve(&rank.cards, own_bases);
    Ok(())
}

fn compute(args: &Args, root: Root<'_>) -> Result<()> {
    let rank = cards::open(args, 0, args.fault_of(0))?;
    let mut ranks = root.open(Arc::clone(&rank.cards));
    let points: Arc<[_]> = data::points(args.pairs, args.seed).into();
    let begin = Instant::now();
    let bases = match args.own_bases {
        true => ranks.register_own(Arc::clone(&points))?,
        false => ranks.register(Arc::clone(&points))?,
    };
    let sent = if args.own_bases || ranks.size() == 1 { 0 } else { bases.bytes() };
    let mut output = Output::new(args, ranks.size(), sent, begin.elapsed());
    for job in 0..args.jobs {
        let scalars = data::scalars(args.pairs, args.seed + 1 + u64::from(job));
        let (sum, report) = ranks.sum(&bases, &scalars).context("no sum")?;
        let verified = match args.no_compare {
            true => None,
            false => Some(data::is_sum(&sum, &Inputs { points: &points, scalars: &scalars })?),
        };
        output.add(report, verified);
        if verified == Some(false) {
            output.print(args.json)?;
        }
        ensure!(
            verified != Some(false),
            "the sum differs from that of halo2curves: a card computed a wrong part; find it with --check"
        );
    }
    output.print(args.json)
}
