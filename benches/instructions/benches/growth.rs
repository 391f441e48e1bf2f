//! Counts how the instructions of the library's operations grow with the number of existing objects. They must not grow faster than a
//! logarithm.
//!
//! `cargo bench --package xdma-instructions --bench growth` prints the curves. Valgrind counts the instructions, which are the same in every
//! run of one build. The times are printed for information: they depend on the machine, its load and its caches.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::channel::{Ring, Transfers};
use xdma::memory::{Access, Buffer, HugePages};
use xdma::regs::Direction;
use xdma::unstable::memory::DmaSpace;
use xdma_instructions::callgrind::{count, measured, wanted};
use xdma_instructions::{Plain, PlainMapper};

/// Maximum ratio between the instructions at the largest and the smallest size. Linear growth has ratios of 50 to 1,000.
const MAX_RATIO: f64 = 1.5;
/// Number of operations per measurement.
const ROUNDS: usize = 500;

/// An operation, and the numbers of existing objects with which it is measured.
struct Curve {
    name: &'static str,
    sizes: &'static [usize],
    run: fn(usize) -> Sample,
}

/// Operations that were executed.
struct Sample {
    operations: usize,
    time: Duration,
}

const CURVES: [Curve; 9] = [
    Curve { name: "register a vector, with others registered", sizes: &[300, 3_000, 15_000], run: register },
    Curve {
        name: "register a vector, between gaps that are too small",
        sizes: &[300, 3_000, 15_000],
        run: register_between_gaps,
    },
    Curve {
        name: "allocate 64 bytes, with others allocated",
        sizes: &[1_000, 10_000, 100_000],
        run: |n| allocate(n, 64),
    },
    Curve {
        name: "allocate 4 KiB, with others allocated",
        sizes: &[1_000, 10_000, 100_000],
        run: |n| allocate(n, 4096),
    },
    Curve {
        name: "allocate 128 bytes, between gaps of 64",
        sizes: &[1_000, 10_000, 100_000],
        run: allocate_between_gaps,
    },
    Curve {
        name: "drop a buffer of 64 bytes, together with all others",
        sizes: &[1_000, 10_000, 100_000],
        run: release,
    },
    Curve { name: "build a program, on a buffer of other programs", sizes: &[10, 1_000, 10_000], run: build },
    Curve { name: "write to a buffer that programs use", sizes: &[10, 1_000, 10_000], run: write },
    Curve { name: "add a buffer to a list of others", sizes: &[100, 3_000, 30_000], run: collect },
];

fn space() -> DmaSpace {
    DmaSpace::new(Arc::new(PlainMapper::default()), HugePages::default(), None, None)
}

/// Executes something that consists of a number of operations.
fn sample<R>(operations: usize, what: impl FnOnce() -> R) -> Sample {
    let begin = Instant::now();
    measured(what);
    Sample { operations, time: begin.elapsed() }
}

fn vector() -> Vec<u8> {
    vec![1; 3 * 4096]
}

fn register(count: usize) -> Sample {
    let space = space();
    let register = |vector| space.register(vector, Access::CardReads).unwrap();
    let _others: Vec<_> = (0..count).map(|_| register(vector())).collect();
    let more: Vec<_> = (0..ROUNDS).map(|_| vector()).collect();
    sample(ROUNDS, || more.into_iter().map(register).collect::<Vec<_>>())
}

fn register_between_gaps(count: usize) -> Sample {
    let space = space();
    let register = |vector| space.register(vector, Access::CardReads).unwrap();
    let mut others: Vec<_> = (0..2 * count).map(|_| Some(register(vector()))).collect();
    others.iter_mut().step_by(2).for_each(|other| *other = None);
    let more: Vec<_> = (0..ROUNDS).map(|_| vec![1; 9 * 4096]).collect();
    sample(ROUNDS, || more.into_iter().map(register).collect::<Vec<_>>())
}

fn buffers(space: &DmaSpace, count: usize, len: u64) -> Vec<Buffer> {
    (0..count).map(|_| space.allocate(len, Access::CardReads).unwrap()).collect()
}

fn allocate(count: usize, len: u64) -> Sample {
    let space = space();
    let _others = buffers(&space, count, len);
    sample(ROUNDS, || buffers(&space, ROUNDS, len))
}

fn allocate_between_gaps(count: usize) -> Sample {
    let space = space();
    let mut others: Vec<_> = buffers(&space, count, 64).into_iter().map(Some).collect();
    others.iter_mut().step_by(2).for_each(|other| *other = None);
    sample(ROUNDS, || buffers(&space, ROUNDS, 128))
}

fn release(count: usize) -> Sample {
    let space = space();
    let all = buffers(&space, count, 64);
    sample(count, || drop(all))
}

/// Returns a list with a single transfer from the buffer that all programs share.
fn shared(plain: &Plain) -> Transfers {
    let mut transfers = Transfers::new(Direction::H2C);
    transfers.add(&plain.scalars, 0..4096, 0).unwrap();
    transfers
}

fn build(count: usize) -> Sample {
    let plain = Plain::new(Ring::Chain);
    let transfers = shared(&plain);
    let programs = |count| (0..count).map(|_| plain.channel.program(&transfers).unwrap()).collect::<Vec<_>>();
    let _others = programs(count);
    sample(ROUNDS, || programs(ROUNDS))
}

fn write(count: usize) -> Sample {
    let mut plain = Plain::new(Ring::Chain);
    let transfers = shared(&plain);
    let _programs: Vec<_> = (0..count).map(|_| plain.channel.program(&transfers).unwrap()).collect();
    sample(ROUNDS, || (0..ROUNDS).for_each(|_| plain.scalars.write(0, &[1u8; 64]).unwrap()))
}

fn collect(count: usize) -> Sample {
    let space = space();
    let all = buffers(&space, count, 64);
    let mut transfers = Transfers::new(Direction::H2C);
    sample(count, || all.iter().for_each(|buffer| transfers.add(buffer, 0..64, 0).map(drop).unwrap()))
}

/// Returns the resident memory of memory files in this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssShmem:")).expect("Linux reports RssShmem");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10
}

/// Returns whether the memory of dropped buffers is returned to the system.
fn memory_is_returned() -> bool {
    let space = space();
    let before = resident();
    let all = buffers(&space, 1000, 1 << 20);
    let allocated = resident();
    drop(all);
    let after = resident();
    println!(
        "1,000 buffers of 1 MiB: {before} MiB resident before, {allocated} MiB with them, {after} MiB after dropping them"
    );
    after <= before + 8
}

impl Curve {
    /// Returns the instructions and the nanoseconds of one operation.
    fn measure(&self, size: usize) -> Result<(f64, f64), String> {
        let Sample { operations, time } = (self.run)(size);
        let each = |total: f64| total / operations as f64;
        let instructions = count(&format!("{size} {}", self.name))?.all();
        Ok((each(instructions as f64), each(time.as_nanos() as f64)))
    }

    /// Prints the curve. Returns whether it is as flat as required.
    fn report(&self) -> Result<bool, String> {
        let points: Vec<_> = self.sizes.iter().map(|&size| self.measure(size)).collect::<Result<_, _>>()?;
        let ratio = points[points.len() - 1].0 / points[0].0;
        let text: Vec<_> = self
            .sizes
            .iter()
            .zip(&points)
            .map(|(size, (instructions, time))| format!("{size}: {instructions:.0} ({:.2} us)", time / 1e3))
            .collect();
        let verdict = if ratio > MAX_RATIO { "  GROWS" } else { "" };
        println!("{}: instructions (time) with {}; ratio {ratio:.2}{verdict}", self.name, text.join(", "));
        // A ratio of nothing is not a number.
        Ok(ratio <= MAX_RATIO)
    }
}

fn main() -> ExitCode {
    if let Some(case) = wanted() {
        let (size, name) = case.split_once(' ').expect("a size and a name");
        let curve = CURVES.iter().find(|curve| curve.name == name).expect("a curve has this name");
        (curve.run)(size.parse().expect("the size is a number"));
        return ExitCode::SUCCESS;
    }
    let is_returned = memory_is_returned();
    let reports: Result<Vec<bool>, String> = CURVES.iter().map(Curve::report).collect();
    match reports {
        Ok(flat) if is_returned && !flat.contains(&false) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
