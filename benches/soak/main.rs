//! Hours in minutes: MSM jobs on one emulated card, transfers on all channels of another, packets on the streams of a third, and
//! faults under all of them.
//!
//! After a fault, and at any other time, channels, clients and cards are recovered, or closed, dropped or forgotten and opened
//! again.
//!
//! `cargo xtask soak --minutes 10 [--json]`. Every byte that comes back and every sum is compared. What fails without a fault,
//! does not work again after its recovery, or comes back wrong ends in a report that says so, and in a failure.

mod faults;
mod moving;
mod session;
mod streams;
mod sums;
mod tally;

use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally::Tally;

#[derive(Parser)]
struct Options {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Of faults, lengths and data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Cargo's own.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Time after which memory should have stopped growing.
const WARM: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let options = Options::parse();
    let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let threads =
        [moving::start, streams::start, sums::start].map(|start| start(options.seed, &tally, &stop));
    let (start, length) = (Instant::now(), Duration::from_secs_f64(options.minutes.max(0.01) * 60.0));
    while start.elapsed() < length && threads.iter().all(|thread| !thread.is_finished()) {
        std::thread::sleep(Duration::from_millis(500));
        if start.elapsed() >= WARM.min(length / 2) {
            tally.note_memory();
        }
        if !options.json {
            eprint!("\r{:4.0} s, {}   ", start.elapsed().as_secs_f64(), tally.line());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let died = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    let report = tally.report(start.elapsed());
    if options.json {
        println!("{}", serde_json::to_string(&report).expect("plain data"))
    } else {
        println!("\n{report}")
    }
    let good =
        died == 0 && report.mismatches == 0 && report.unexplained.is_empty() && report.violations.is_empty();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
