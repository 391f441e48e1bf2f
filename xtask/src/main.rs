//! `cargo xtask`: tests, audits, benchmarks, fuzzing and code generation for this repository.
//!
//! Each suite is a file in `suites/`. The output of its commands goes to `target/xtask/SUITE.log`, and its downloads to a private prefix
//! below `target/`. Nothing is installed on the machine, and nothing needs root.

mod audits;
mod fuzz;
mod libtest;
mod metadata;
mod packages;
mod process;
mod registers;
mod run;
mod schedule;
mod suites;
mod table;
mod vm;
mod workspace;

use anyhow::{Context, Result};
use audits::AUDITS;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use std::process::ExitCode;
use suites::{Level, SUITES, Stage, all};
use workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
/// Tests, audits, benchmarks, fuzzing and code generation for this repository.
enum Command {
    /// Runs the test suites and prints one table of results.
    #[command(after_help = suites::help(SUITES))]
    Test {
        /// Run only the quick suites: about two minutes once everything is built.
        #[arg(long, conflicts_with = "full")]
        quick: bool,
        /// Run all suites with all of their checks: about an hour.
        #[arg(long)]
        full: bool,
        /// Count a skip as a failure.
        #[arg(long)]
        require_all: bool,
        /// The suites to run, regardless of their level.
        #[arg(value_name = "SUITE", hide_possible_values = true, value_parser = names(SUITES))]
        suites: Vec<String>,
    },
    /// Runs the sanitizers, valgrind and Miri, and checks dependencies for known vulnerabilities.
    #[command(after_help = suites::help(AUDITS))]
    Audit {
        /// Count a skip as a failure.
        #[arg(long)]
        require_all: bool,
        /// The audits to run; all by default.
        #[arg(value_name = "AUDIT", hide_possible_values = true, value_parser = names(AUDITS))]
        audits: Vec<String>,
    },
    /// Counts the instructions of transfers, an MSM program and calls of `xdma run` in a virtual machine, and prints JSON. Fails if calls
    /// through the broker take more than with the kernel modules.
    BenchVm {
        /// Print one line: `{"transfers": {"4096": N, ...}, "program": {"pairs": N, "first": N, "rerun": N, ...}}`.
        #[arg(long)]
        json: bool,
    },
    /// Runs the fuzz targets.
    Fuzz {
        /// Targets in `fuzz/fuzz_targets` to run; all by default.
        targets: Vec<String>,
        /// Seconds to run each target.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
        seconds: u32,
        /// Afterwards, add new inputs to the committed corpora and minimise them.
        #[arg(long)]
        keep: bool,
    },
    /// Stress-tests the driver: runs jobs and transfers on emulated cards, injects faults, and checks every result.
    Soak {
        /// How long to run.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Seed for faults, lengths and data.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print one JSON object: `jobs`, `bytes`, `faults`, `recoveries`, `mismatches` and more.
        #[arg(long)]
        json: bool,
    },
    /// Generates the design's SystemVerilog register package from `crates/regs`.
    Registers,
}

fn names(stages: &'static [Stage]) -> PossibleValuesParser {
    PossibleValuesParser::new(all(stages).map(|suite| suite.name))
}

fn main() -> ExitCode {
    let result = process::kill_descendants_when_interrupted().and_then(|()| match Command::parse() {
        Command::Test { quick, full, require_all, suites } => {
            let level = match (quick, full) {
                (true, _) => Level::Quick,
                (_, true) => Level::Full,
                _ => Level::Default,
            };
            schedule::run_all(SUITES, level, require_all, &suites)
        }
        Command::Audit { require_all, audits } => {
            schedule::run_all(AUDITS, Level::Full, require_all, &audits)
        }
        Command::BenchVm { json } => bench_vm(json),
        Command::Fuzz { targets, seconds, keep } => fuzz::fuzz(&targets, seconds, keep),
        Command::Soak { minutes, seed, json } => soak(minutes, seed, json),
        Command::Registers => registers::write(&Workspace::find()).map(|()| true),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench_vm(json: bool) -> Result<bool> {
    let workspace = Workspace::find();
    let mut run = run::Run::new(&workspace, Level::Full, "bench-vm")?;
    let rig = vm::rig::Rig::get_or_build(&mut run)?
        .context("cannot build the virtual machine; see target/xtask/bench-vm.log")?;
    let counts = suites::count(&mut run, rig)?;
    println!("{}", if json { counts.to_string() } else { format!("{counts:#}") });
    Ok(true)
}

/// Runs the bench `soak`, a stress test with injected faults, with the emulated card's rules enforced. Returns whether it succeeded.
fn soak(minutes: f64, seed: u64, json: bool) -> Result<bool> {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.current_dir(Workspace::find().root).env("XDMA_STRICT", "1");
    let arguments = format!("bench --quiet --package xdma --bench soak -- --minutes {minutes} --seed {seed}");
    command.args(arguments.split(' ')).args(json.then_some("--json"));
    Ok(command.status().context("cargo did not start")?.success())
}
