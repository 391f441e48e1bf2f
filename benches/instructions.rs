//! How many instructions the library takes to submit a program, to poll it, and to build a chain.
//!
//! `cargo bench --bench instructions`; it needs valgrind, which counts them. The counts are exact and the same in each run of
//! one build: no clock is read, and nothing else on the machine matters.
//!
//! The program runs itself under `valgrind --tool=callgrind`, once for each case, and counts what happens inside `measured`
//! after the case has warmed up. This needs no runner, no macro and no crate: a fresh machine has valgrind or it has not.
//! The card's registers are plain memory here, checked and counted as those of a mapped BAR.

#[path = "common/plain.rs"]
mod plain;

use plain::Plain;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use xdma::engine::{Poll, Program, Ring, Ticket};

/// Times that a case is measured in a run; the figure is the mean.
const ROUNDS: u64 = 100;
/// Chunks of an MSM of 2^20 pairs, 1,024 pairs each.
const CHUNKS: u64 = 1024;

struct Case {
    name: &'static str,
    /// What one figure is counted for.
    each: &'static str,
    /// How many of these a run counts.
    units: u64,
    /// Most instructions for one.
    limit: u64,
    run: fn(),
}

const CASES: [Case; 4] = [
    Case {
        name: "chain-rerun",
        each: "submit and poll of a program",
        units: ROUNDS,
        limit: 100,
        run: || rerun(Ring::Chain),
    },
    Case {
        name: "credits-rerun",
        each: "submit and poll of a program",
        units: ROUNDS,
        limit: 100,
        run: || rerun(Ring::Credits),
    },
    Case {
        name: "collect",
        each: "descriptor, in a list of transfers",
        units: 2 * CHUNKS,
        limit: 200,
        run: || {
            let plain = Plain::new(Ring::Chain);
            measured(|| plain.transfers(CHUNKS));
        },
    },
    Case {
        name: "build",
        each: "descriptor, in a chain",
        units: 2 * CHUNKS,
        limit: 40,
        run: || {
            let plain = Plain::new(Ring::Chain);
            let transfers = plain.transfers(CHUNKS);
            measured(|| plain.channel.program(&transfers).unwrap());
        },
    },
];

/// What is counted: everything below this function.
#[inline(never)]
fn measured<R>(what: impl FnOnce() -> R) -> R {
    black_box(what())
}

fn rerun(ring: Ring) {
    let mut plain = Plain::new(ring);
    // All of its descriptors fit into the credits at once.
    let program = plain.program(100);
    let descriptors = program.descriptors() as u32;
    for _ in 0..3 {
        let ticket = plain.channel.run(&program).unwrap();
        plain.complete(descriptors);
        assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Ready);
    }
    for _ in 0..ROUNDS {
        let ticket = submit(&mut plain, &program);
        plain.complete(descriptors);
        assert!(poll(&mut plain, ticket));
    }
}

fn submit(plain: &mut Plain, program: &Program) -> Ticket {
    measured(|| plain.channel.run(program).unwrap())
}

fn poll(plain: &mut Plain, ticket: Ticket) -> bool {
    measured(|| plain.channel.poll(ticket).unwrap() == Poll::Ready)
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var("XDMA_BENCH_CASE") {
        (CASES.iter().find(|case| case.name == name).expect("a case").run)();
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    for case in &CASES {
        match count(case) {
            Ok(functions) => good &= report(case, &functions),
            Err(error) => {
                eprintln!("{}: {error}", case.name);
                return ExitCode::FAILURE;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case under callgrind; instructions of each function.
fn count(case: &Case) -> Result<BTreeMap<String, u64>, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{}", case.name));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*instructions::measured*", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .env("XDMA_BENCH_CASE", case.name)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| {
            format!("valgrind does not start: {e}; install it, as with `apt-get install valgrind`")
        })?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(functions(&std::fs::read_to_string(&out).map_err(|e| e.to_string())?))
}

/// The instructions of each function itself, from callgrind's output.
fn functions(text: &str) -> BTreeMap<String, u64> {
    let (mut functions, mut name, mut call) = (BTreeMap::new(), String::new(), false);
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            name = function.to_owned();
        } else if line.starts_with("calls=") {
            // The line after it has the cost of what was called, which is counted there.
            call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-' || c == '*') {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
            if !std::mem::take(&mut call) {
                *functions.entry(name.clone()).or_insert(0) += cost;
            }
        }
    }
    functions
}

fn report(case: &Case, functions: &BTreeMap<String, u64>) -> bool {
    let total: u64 = functions.values().sum();
    let each = |count: u64| count as f64 / case.units as f64;
    let good = total > 0 && total <= case.limit * case.units;
    let verdict = if good { "" } else { "  MORE THAN ALLOWED" };
    println!(
        "{}: {:.1} instructions a {}, at most {}{verdict}",
        case.name,
        each(total),
        case.each,
        case.limit
    );
    let mut parts: Vec<_> = functions.iter().filter(|(_, count)| each(**count) >= 0.5).collect();
    parts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, count) in parts {
        println!("    {:7.1}  {name}", each(*count));
    }
    good
}
