//! `cargo xtask test`: everything that can be tested on this machine, by one command.
//!
//! A suite is a file in `suites/`. What a suite runs writes to `target/xtask/SUITE.log`; what a suite must fetch goes to
//! a private prefix below `target/`, so that no root is needed.

mod audits;
mod fuzz;
mod libtest;
mod packages;
mod python;
mod registers;
mod run;
mod soak;
mod suites;
mod table;
mod vm;

use anyhow::Result;
use audits::AUDITS;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use run::Workspace;
use std::process::ExitCode;
use std::thread;
use suites::{Lane, SUITES, Stage, all};
use table::Row;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
/// The chores of this repository.
enum Command {
    /// Tests everything that can be tested on this machine and ends with one table.
    Test {
        /// A skip is a failure.
        #[arg(long)]
        require_all: bool,
        /// The suites to run; all of them by default.
        #[arg(value_name = "SUITE", value_parser = PossibleValuesParser::new(all(SUITES).map(|s| s.name)))]
        suites: Vec<String>,
    },
    /// Looks for what tests do not see: sanitizers, valgrind, Miri, and what is known of the dependencies.
    Audit {
        /// A skip is a failure.
        #[arg(long)]
        require_all: bool,
        /// The audits to make; all of them by default.
        #[arg(value_name = "AUDIT", value_parser = PossibleValuesParser::new(all(AUDITS).map(|s| s.name)))]
        audits: Vec<String>,
    },
    /// Counts the instructions of transfers and of a program in a virtual machine.
    BenchVm {
        /// Print JSON: `{"transfers": {"4096": N, ...}, "program": {"pairs": N, "first": N, "rerun": N}}`.
        #[arg(long)]
        json: bool,
    },
    /// Feeds the fuzz targets what nobody thought of, and prints executions, coverage and finds.
    Fuzz {
        /// The targets, those in `fuzz/fuzz_targets`; all of them by default.
        targets: Vec<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
        seconds: u32,
        /// Keep in the committed corpora what adds to coverage, and nothing else.
        #[arg(long)]
        keep: bool,
    },
    /// Strains the driver: jobs and transfers on emulated cards, and faults under them, everything compared.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Of faults, lengths and data.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print one JSON object: `jobs`, `bytes`, `faults`, `recoveries`, `mismatches` and more.
        #[arg(long)]
        json: bool,
    },
    /// Writes the design's register map, a SystemVerilog package, from the driver's.
    Registers,
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Test { require_all, suites } => test(SUITES, require_all, &suites),
        Command::Audit { require_all, audits } => test(AUDITS, require_all, &audits),
        Command::BenchVm { json } => finish(bench_vm(json)),
        Command::Fuzz { targets, seconds, keep } => {
            finish(fuzz::fuzz(&fuzz::Wish { targets: &targets, seconds, keep }))
        }
        Command::Soak { minutes, seed, json } => finish(soak::soak(minutes, seed, json)),
        Command::Registers => finish(registers::write(&Workspace::find())),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench_vm(json: bool) -> Result<()> {
    let workspace = Workspace::find();
    let mut run = run::Run::new(&workspace, "bench-vm")?;
    let rig = vm::rig::Rig::install(&workspace.prefix())?;
    let counts = vm::counts::count(&mut run, rig)?;
    if json {
        println!("{counts}")
    } else {
        print!("{}", vm::counts::table(&counts))
    }
    Ok(())
}

fn test(stages: &'static [Stage], require_all: bool, suites: &[String]) -> ExitCode {
    let chosen = |name: &str| suites.is_empty() || suites.iter().any(|chosen| chosen == name);
    let workspace = Workspace::find();
    let run_lane = |lane: Lane| -> Vec<Row> {
        let chosen = lane.iter().filter(|suite| chosen(suite.name));
        chosen.map(|suite| run::suite(&workspace, suite)).collect()
    };
    let run_stage = |stage: &Stage| -> Vec<Row> {
        thread::scope(|scope| {
            let lanes: Vec<_> = stage.iter().map(|&lane| scope.spawn(move || run_lane(lane))).collect();
            lanes.into_iter().flat_map(|lane| lane.join().expect("a suite's panic was printed")).collect()
        })
    };
    let rows: Vec<Row> = stages.iter().flat_map(run_stage).collect();
    print!("\n{}", table::render(&rows));
    println!("\n{}", table::summary(&rows));
    if table::is_success(&rows, require_all) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
