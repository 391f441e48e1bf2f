//! Runs a whole MSM on the design and reports its cycles, which are the same on every machine, and the simulation speed.
//!
//! `cargo bench -p xdma-rtl -- 20` runs 2^20 pairs, which is also the default.

#[path = "../tests/system/bench.rs"]
#[allow(dead_code)]
mod bench;

use bench::{Bench, Pairs};
use std::time::Instant;
use xdma_regs::msm::*;
use xdma_rtl::Variant;

fn main() {
    let log: u32 = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(20);
    let count = 1 << log;
    let pairs = Pairs::random(count, 1);
    let expected = pairs.sum();
    let mut bench = Bench::new(Variant::Full);
    bench.wait(ENGINE_READY, 1);
    let start = Instant::now();
    let first = bench.master.cycles();
    let sum = bench.run(&pairs, Mode::MONTGOMERY);
    let (cycles, seconds) = (bench.master.cycles() - first, start.elapsed().as_secs_f64());
    assert_eq!(sum, expected);
    let phase1 = bench.get64(PHASE1_CLOCKS);
    println!(
        "2^{log} pairs, result correct: {cycles} cycles, of which {phase1} from the first pair to the last"
    );
    println!("{:.2} ms at 250 MHz", cycles as f64 / 250e3);
    println!("{seconds:.1} s, {:.2} million cycles per second", cycles as f64 / seconds / 1e6);
}
