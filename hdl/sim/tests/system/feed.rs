//! The feed: deadlock, watchdog, flush, counters, and the stub core.

use crate::bench::{Bench, Pairs, TIMEOUT};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use xdma_regs::msm::*;
use xdma_rtl::{Response, Variant};

/// Causes the deadlock that the design allows: scalars fill their FIFO before any of their points arrive.
fn deadlock(bench: &mut Bench) {
    let pairs = Pairs::random(2048, 5);
    bench.push(2048, Mode::empty());
    let (scalars, points) = (pairs.scalar_bytes(Mode::empty()), pairs.point_bytes());
    bench.queue(0, SCALAR_WINDOW, &scalars);
    bench.queue(1, POINT_WINDOW, &points[..4096]);
    bench.queue(1, SCRATCH_WINDOW, &[1; 64]);
    bench.master.idle(2_000);
}

fn recover(bench: &mut Bench) {
    bench.abort_and_flush();
    let pairs = Pairs::random(100, 6);
    assert_eq!(bench.run(&pairs, Mode::empty()), pairs.sum());
}

#[test]
fn a_scalar_chunk_beyond_the_fifo_deadlocks_until_abort_and_flush() {
    let mut bench = Bench::new(Variant::Small);
    bench.set(WATCHDOG, 0);
    deadlock(&mut bench);
    assert_eq!(
        bench.master.writes_open(),
        10,
        "eight of sixteen scalar bursts fit; the other eight block the two writes behind them"
    );
    assert_eq!(bench.get(STATUS), (Status::BUSY | Status::SCALAR_STALLED).bits());
    assert_eq!((bench.get(FREE_SCALARS), bench.get(FREE_POINTS)), (0, 1024));
    bench.master.idle(300_000);
    assert_eq!(bench.master.writes_open(), 10);
    assert!(bench.get64(STALL_SCALAR) >= 300_000);
    assert!(bench.get64(STARVE_POINT) >= 290_000);
    assert_eq!((bench.get64(STALL_POINT), bench.get(ERRORS)), (0, 0));
    recover(&mut bench);
}

#[test]
fn the_watchdog_ends_a_deadlock() {
    let mut bench = Bench::new(Variant::Small);
    bench.set(WATCHDOG, 5_000);
    bench.set(IRQ_ENABLE, Irq::ERROR.bits());
    deadlock(&mut bench);
    assert_eq!(bench.get(ERRORS), 0);
    let mut clocks = 0;
    while !bench.master.irq() {
        clocks += bench.master.run(10_000);
        assert!(clocks < 6_000, "the watchdog has not fired");
    }
    assert!(bench.get64(STALL_SCALAR) >= 5_000);
    assert!(bench.master.finish(2_000), "the blocked writes are discarded");
    let windows = [SCALAR_WINDOW, POINT_WINDOW];
    assert_eq!(windows.map(|window| bench.write(window, &[0; 4096])), [Response::SlaveError; 2]);
    assert_eq!(bench.write(SCRATCH_WINDOW, &[0; 4096]), Response::Okay);
    assert_eq!(bench.get(ERRORS), Errors::WATCHDOG.bits());
    assert_eq!(bench.get(STATUS), (Status::DROPPING | Status::BUSY).bits());
    bench.set(ERRORS, Errors::WATCHDOG.bits());
    bench.set(IRQ_STATUS, Irq::ERROR.bits());
    assert!(!bench.master.irq());
    recover(&mut bench);
}

#[test]
fn the_watchdog_tolerates_a_slow_host() {
    let mut bench = Bench::new(Variant::Stub);
    bench.set(WATCHDOG, 300);
    let pairs = Pairs::random(1500, 7);
    let (scalars, points) = (pairs.scalar_bytes(Mode::empty()), pairs.point_bytes());
    bench.push(1500, Mode::empty());
    for (scalars, points) in scalars.chunks(4096).zip(points.chunks(8192)) {
        bench.queue(0, SCALAR_WINDOW, scalars);
        bench.master.idle(400);
        bench.queue(0, POINT_WINDOW, points);
        bench.master.idle(1_700);
    }
    bench.wait(RESULT_VALID, 1);
    assert_eq!(bench.get(ERRORS), 0);
}

/// Computes the checksum of the stub core, from the sums and the sums of sums of each lane's words. The emulated card's
/// functional model computes it too.
fn checksum(bytes: &[u8]) -> Vec<u8> {
    let (mut sums, mut sums_of_sums) = ([0u64; 4], [0u64; 4]);
    for granule in bytes.chunks_exact(32) {
        for lane in 0..4 {
            let word = u64::from_le_bytes(granule[8 * lane..8 * lane + 8].try_into().unwrap());
            sums[lane] = sums[lane].wrapping_add(word);
            sums_of_sums[lane] = sums_of_sums[lane].wrapping_add(sums[lane]);
        }
    }
    let odd = |lane: u64| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(2 * lane + 1);
    let word = |lane: usize| sums[lane].wrapping_mul(odd(lane as u64)) ^ sums_of_sums[lane].rotate_left(32);
    (0..4).flat_map(|lane| word(lane).to_le_bytes()).collect()
}

#[test]
fn the_stub_core_keeps_its_rate_and_returns_checksums() {
    for (variant, cycles) in [(Variant::Stub, 16), (Variant::Stub, 23), (Variant::StubDeep, 2)] {
        let mut bench = Bench::new(variant);
        assert!(bench.master.model().set_pair_cycles(cycles));
        assert_eq!(bench.get(IMAGE_PARAMETERS) >> 28, 1);
        let mut random = StdRng::seed_from_u64(18);
        let mut noise = |count: usize| (0..count).map(|_| random.random()).collect::<Vec<u8>>();
        let (scalars, points) = (noise(5002 * 32), noise(5001 * 64));
        bench.push(5001, Mode::empty());
        for (scalars, points) in scalars.chunks(512 * 32).zip(points.chunks(512 * 64)) {
            bench.queue(0, SCALAR_WINDOW, scalars);
            bench.queue(0, POINT_WINDOW, points);
        }
        bench.wait(RESULT_VALID, 1);
        assert!(bench.master.finish(TIMEOUT));
        let result = bench.read(RESULT_WINDOW, xdma_rtl::Burst::Increment, RESULT_BYTES).1;
        assert_eq!(result[..32], checksum(&scalars[..5001 * 32]));
        assert_eq!(result[32..64], checksum(&points));
        assert_eq!(result[64..72], 5001u64.to_le_bytes());
        let clocks = bench.get64(PHASE1_CLOCKS);
        assert!((5000 * u64::from(cycles)..5000 * u64::from(cycles) + 600).contains(&clocks), "{clocks}");
    }
}

#[test]
fn counters_attribute_every_wait() {
    let mut bench = Bench::new(Variant::Stub);
    bench.push(64, Mode::empty());
    bench.master.idle(500);
    bench.write(POINT_WINDOW, &[0; 4096]);
    bench.master.idle(1_000);
    let starved = bench.get64(STARVE_SCALAR);
    assert!(bench.get64(STARVE_BOTH) >= 500 && (1_000..1_200).contains(&starved), "{starved}");
    bench.write(SCALAR_WINDOW, &[0; 2048]);
    bench.wait(RESULT_VALID, 1);
    assert_eq!(bench.get64(CORE_BUSY), 64 * 16);
    assert_eq!(bench.get64(PHASE1_CLOCKS), 63 * 16);
    assert_eq!(bench.get64(STALL_POINT) + bench.get64(STALL_SCALAR), 0);
}
