//! Stress test with injected faults: MSM jobs on one emulated card, transfers on all channels of another, and packets on the
//! streams of a third.
//!
//! After faults, and at random times, channels, clients and cards are recovered, or they are closed, dropped or forgotten and then
//! opened again.
//!
//! `cargo xtask soak --minutes 10 [--json]`. Every received byte and every MSM result is checked. The bench fails if data is wrong,
//! if an operation fails without a fault, or if something does not work again after its recovery. The report lists all of these.

mod faults;
mod msm_jobs;
mod session;
mod streams;
mod tally;
mod transfers;

use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally::Tally;

#[derive(Parser)]
struct Args {
    /// Duration in minutes.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Seed of faults, lengths and data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    /// Passed by `cargo bench`; ignored.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Time after which memory should no longer grow.
const WARM_UP: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let args = Args::parse();
    let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let threads =
        [transfers::start, streams::start, msm_jobs::start].map(|start| start(args.seed, &tally, &stop));
    let (start, length) = (Instant::now(), Duration::from_secs_f64(args.minutes.max(0.01) * 60.0));
    while start.elapsed() < length && threads.iter().all(|thread| !thread.is_finished()) {
        std::thread::sleep(Duration::from_millis(500));
        if start.elapsed() >= WARM_UP.min(length / 2) {
            tally.note_memory();
        }
        if !args.json {
            eprint!("\r{:4.0} s, {}   ", start.elapsed().as_secs_f64(), tally.line());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let panicked = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    let report = tally.report(start.elapsed());
    if args.json {
        println!("{}", serde_json::to_string(&report).expect("plain data"))
    } else {
        println!("\n{report}")
    }
    let passed = panicked == 0
        && report.mismatches == 0
        && report.unexplained.is_empty()
        && report.violations.is_empty();
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
