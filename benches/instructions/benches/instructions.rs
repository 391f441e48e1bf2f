//! Counts the instructions that the library executes to submit and poll a program, to make a transfer, and to build a chain.
//!
//! `cargo bench --bench instructions` needs valgrind, which counts the instructions. The counts are exact, and the same in every
//! run of one build: the measured code reads no clock and does not depend on the machine's load.
//!
//! The program runs itself under `valgrind --tool=callgrind`, once for each case, and counts the instructions inside `measured`,
//! after a warm-up of the case. It needs no benchmark framework. The card's registers are plain memory, with the checks and
//! counters of a mapped BAR.

use std::path::Path;
use std::process::ExitCode;
use xdma::channel::{Poll, Program, Ring, Ticket};
use xdma_instructions::callgrind::{Cost, count, measured, wanted};
use xdma_instructions::comparison::ROUNDS;
use xdma_instructions::{Plain, in_c};

/// Chunks of an MSM of 2^20 pairs, 1,024 pairs each.
const CHUNKS: u64 = 1024;

struct Case {
    name: &'static str,
    /// The operation whose instructions are counted.
    each: &'static str,
    /// Number of these operations in a run.
    units: u64,
    /// Intended instructions per operation.
    target: u64,
    /// Maximum instructions per operation: the current count, with some room for other compilers.
    limit: u64,
    run: fn(),
}

const CASES: [Case; 9] = [
    Case {
        name: "chain-rerun",
        each: "submit and poll of a program",
        units: ROUNDS,
        target: 120,
        limit: 168,
        run: || rerun(Ring::Chain),
    },
    Case {
        name: "credits-rerun",
        each: "submit and poll of a program",
        units: ROUNDS,
        target: 98,
        limit: 137,
        run: || rerun(Ring::Credits),
    },
    Case {
        name: "chain-transfer",
        each: "submit and wait of one transfer",
        units: ROUNDS,
        target: 141,
        limit: 189,
        run: || transfer(Ring::Chain),
    },
    Case {
        name: "credits-transfer",
        each: "submit and wait of one transfer",
        units: ROUNDS,
        target: 106,
        limit: 158,
        run: || transfer(Ring::Credits),
    },
    Case {
        name: "chain-depth-1",
        each: "submit and wait of one transfer of a queue of 1",
        units: ROUNDS,
        target: 141,
        limit: 189,
        run: || queue(1),
    },
    Case {
        name: "chain-depth-16",
        each: "submit and wait of one transfer of a queue of 16",
        units: 16 * ROUNDS,
        target: 148,
        limit: 194,
        run: || queue(16),
    },
    Case {
        name: "chain-depth-250",
        each: "submit and wait of one transfer of a queue of 250",
        units: 250 * ROUNDS,
        target: 148,
        limit: 194,
        run: || queue(250),
    },
    Case {
        name: "collect",
        each: "descriptor, in a list of transfers",
        units: 2 * CHUNKS,
        target: 200,
        limit: 108,
        run: || {
            let plain = Plain::new(Ring::Chain);
            measured(|| plain.transfers(CHUNKS));
        },
    },
    Case {
        name: "build",
        each: "descriptor, in a chain",
        units: 2 * CHUNKS,
        target: 40,
        limit: 39,
        run: || {
            let plain = Plain::new(Ring::Chain);
            let transfers = plain.transfers(CHUNKS);
            measured(|| plain.channel.program(&transfers).unwrap());
        },
    },
];

fn rerun(ring: Ring) {
    let mut plain = Plain::new(ring);
    // All descriptors of the program fit into the credits.
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

fn transfer(ring: Ring) {
    let mut plain = Plain::new(ring);
    let limit = std::time::Duration::from_secs(10);
    for round in 0..3 + ROUNDS {
        let begin = |plain: &mut Plain| plain.channel.submit(&plain.scalars, 0..4096, 0x1000).unwrap();
        let end = |plain: &mut Plain, ticket| plain.channel.wait(ticket, limit).unwrap();
        if round < 3 {
            let ticket = begin(&mut plain);
            plain.complete(1);
            end(&mut plain, ticket);
        } else {
            let ticket = measured(|| begin(&mut plain));
            plain.complete(1);
            measured(|| end(&mut plain, ticket));
        }
    }
}

/// Measures transfers of which `depth` are in flight, on the chain ring: the engine executes one, and the others wait for it.
fn queue(depth: usize) {
    let mut plain = Plain::new(Ring::Chain);
    let limit = std::time::Duration::from_secs(10);
    let mut tickets = Vec::with_capacity(depth);
    for round in 0..3 + ROUNDS {
        for _ in 0..depth {
            let mut begin = || plain.channel.submit(&plain.scalars, 0..4096, 0x1000).unwrap();
            tickets.push(if round < 3 { begin() } else { measured(begin) });
        }
        for ticket in tickets.drain(..) {
            plain.complete(1);
            let mut end = || plain.channel.wait(ticket, limit).unwrap();
            if round < 3 {
                end()
            } else {
                measured(end)
            };
        }
    }
}

fn submit(plain: &mut Plain, program: &Program) -> Ticket {
    measured(|| plain.channel.run(program).unwrap())
}

fn poll(plain: &mut Plain, ticket: Ticket) -> bool {
    measured(|| plain.channel.poll(ticket).unwrap() == Poll::Ready)
}

fn main() -> ExitCode {
    if let Some(name) = wanted() {
        let compared = in_c::COMPARISONS.iter().map(|comparison| (comparison.name, comparison.in_rust));
        let mut all = CASES.iter().map(|case| (case.name, case.run)).chain(compared);
        all.find(|(known, _)| *known == name).expect("a case has this name").1();
        return ExitCode::SUCCESS;
    }
    let mut alone = None;
    let cases = CASES.iter().map(|case| {
        let cost = count(case.name)?;
        let each = cost.files.values().sum::<u64>() as f64 / case.units as f64;
        let is_flat = !case.name.starts_with("chain-depth-") || is_flat(each, *alone.get_or_insert(each));
        Ok(report(case, &cost) && is_flat)
    });
    let results = cases.chain([in_c::report(Path::new(env!("CARGO_TARGET_TMPDIR")))]);
    // Counts all, even if one has failed.
    let passed = results.fold(true, |passed, result| match result {
        Ok(is_within_limit) => passed && is_within_limit,
        Err(error) => {
            eprintln!("{error}");
            false
        }
    });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns whether a transfer in a queue takes at most 5 percent more instructions than one alone.
fn is_flat(each: f64, alone: f64) -> bool {
    let is_flat = each <= 1.05 * alone;
    if !is_flat {
        println!("{each:.1} instructions in a queue, but {alone:.1} alone: MORE THAN 5 PERCENT MORE");
    }
    is_flat
}

/// Prints the instructions of a case. Returns whether they are as few as required.
fn report(case: &Case, cost: &Cost) -> bool {
    let total: u64 = cost.files.values().sum();
    let each = |count: u64| count as f64 / case.units as f64;
    let verdict = match total {
        // This happens if the library is inlined into its caller.
        0 => "  NOTHING COUNTED",
        _ if total > case.limit * case.units => "  MORE THAN ALLOWED",
        _ => "",
    };
    let Case { name, each: unit, limit, target, .. } = case;
    println!("{name}: {:.1} instructions a {unit} (target {target}, limit {limit}){verdict}", each(total));
    let mut parts: Vec<_> = cost.files.iter().filter(|(_, count)| each(**count) >= 0.5).collect();
    parts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    parts.iter().for_each(|(file, count)| println!("    {:6.1}  {file}", each(**count)));
    println!("    {:6.1}  not included: the caller", each(cost.caller));
    verdict.is_empty()
}
