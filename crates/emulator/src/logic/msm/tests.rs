//! Tests of the model through [`Logic`]. Sums, which it computes with arkworks, are checked against halo2curves.

use super::state::State;
use super::*;
use ark_bn254::{Fq, Fr, G1Affine, G1Projective};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInt, BigInteger, Field, One, PrimeField, UniformRand, Zero};
use halo2curves::bn256;
use halo2curves::group::{Curve, prime::PrimeCurveAffine};
use halo2curves::msm::msm_best;
use proptest::prelude::*;
use rand_08::{Rng as _, SeedableRng, rngs::StdRng};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use xdma_regs::msm::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// Records the calls of the design.
#[derive(Default)]
struct TestShell {
    /// The number of progress calls, and the levels of the interrupt line.
    seen: Mutex<(u64, Vec<bool>)>,
    change: Condvar,
}

impl Shell for TestShell {
    fn progress(&self) {
        self.seen.lock().unwrap().0 += 1;
        self.change.notify_all();
    }

    fn user_irq(&self, line: usize, level: bool) {
        assert_eq!(line, 0);
        self.seen.lock().unwrap().1.push(level);
        self.change.notify_all();
    }
}

impl TestShell {
    fn wait(&self, what: &str, mut until: impl FnMut(&(u64, Vec<bool>)) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.lock().unwrap();
        while !until(&seen) {
            let left = deadline.checked_duration_since(Instant::now()).unwrap_or_else(|| panic!("{what}"));
            seen = self.change.wait_timeout(seen, left).unwrap().0;
        }
    }

    fn progress_count(&self) -> u64 {
        self.seen.lock().unwrap().0
    }
}

struct Bench {
    msm: MsmModel,
    shell: Arc<TestShell>,
}

impl Bench {
    fn new(options: MsmModelOptions) -> Self {
        let bench = Self { msm: MsmModel::new(options), shell: Arc::default() };
        bench.msm.attach(bench.shell.clone());
        bench
    }

    fn get(&self, register: u32) -> u32 {
        self.msm.user_read(0, register.into())
    }

    fn get64(&self, register: u32) -> u64 {
        u64::from(self.get(register)) | u64::from(self.get(register + 4)) << 32
    }

    fn set(&self, register: u32, value: u32) {
        self.msm.user_write(0, register.into(), value);
    }

    fn push(&self, pairs: usize, mode: Mode) {
        self.set(N_ELEMENTS, pairs as u32);
        self.set(MODE, mode.bits());
        self.set(PUSH_TASK, 1);
    }

    fn write(&self, channel: usize, address: u64, bytes: &[u8]) -> AxiResponse {
        let mut bytes = bytes.to_vec();
        self.msm.write(channel, address, Burst::Increment, &bytes.as_mut_slice().into())
    }

    /// Sends bytes like the engine: in pieces that do not cross 4 KiB, with retries after progress.
    fn send(&self, channel: usize, window: u64, bytes: &[u8]) {
        for piece in bytes.chunks(4096) {
            let mut done = 0;
            while done < piece.len() {
                let before = self.shell.progress_count();
                match self.write(channel, window + done as u64, &piece[done..]) {
                    AxiResponse::Okay(count) => done += count,
                    AxiResponse::Wait => self.shell.wait("a write waits forever", |seen| seen.0 > before),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// Sends chunks of scalars and points alternately, half a FIFO each.
    fn feed(&self, pairs: &Pairs, mode: Mode) {
        let scalars = pairs.scalar_bytes(mode);
        let points = pairs.point_bytes();
        let chunk = (self.get(SCALAR_DEPTH).min(self.get(POINT_DEPTH)) as usize / 2).next_multiple_of(2);
        for (scalars, points) in scalars.chunks(chunk * 32).zip(points.chunks(chunk * 64)) {
            self.send(0, SCALAR_WINDOW, scalars);
            self.send(0, POINT_WINDOW, points);
        }
    }

    fn wait(&self, register: u32, value: u32) {
        let deadline = Instant::now() + PATIENCE;
        while self.get(register) != value {
            assert!(Instant::now() < deadline, "{register:#x} is {:#x}", self.get(register));
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Reads the oldest result through both the window and the registers, and removes it.
    fn result(&self) -> ([u8; RESULT_BYTES], u32) {
        self.wait(RESULT_VALID, 1);
        let mut window = [0; RESULT_BYTES];
        let answer = self.msm.read(0, RESULT_WINDOW, Burst::Increment, &window.as_mut_slice().into());
        assert_eq!(answer, AxiResponse::Okay(RESULT_BYTES));
        for (word, bytes) in window.chunks(4).enumerate() {
            assert_eq!(self.get(RESULT + 4 * word as u32).to_le_bytes(), bytes);
        }
        let label = self.get(RESULT_LABEL);
        self.set(POP_RESULT, 1);
        (window, label)
    }

    fn run(&self, pairs: &Pairs, mode: Mode) -> G1Projective {
        self.push(pairs.scalars.len(), mode);
        self.feed(pairs, mode);
        decode(&self.result().0)
    }
}

struct Pairs {
    scalars: Vec<Fr>,
    points: Vec<G1Affine>,
}

impl Pairs {
    fn random(count: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let points: Vec<_> = (0..count).map(|_| G1Projective::rand(&mut rng)).collect();
        let scalars = (0..count).map(|_| Fr::rand(&mut rng)).collect();
        Self { scalars, points: G1Projective::normalize_batch(&points) }
    }

    /// Computes the sum with the other library.
    fn sum(&self) -> G1Projective {
        let pairs = self.scalars.iter().zip(&self.points).filter(|(_, point)| !point.is_zero());
        let (scalars, points): (Vec<_>, Vec<_>) = pairs
            .map(|(scalar, point)| {
                let [x, y] = [point.x, point.y].map(|coordinate| bn256::Fq(coordinate.0.0));
                (bn256::Fr(scalar.0.0), bn256::G1Affine { x, y })
            })
            .unzip();
        let sum = msm_best(&scalars, &points).to_affine();
        if bool::from(sum.is_identity()) {
            return G1Projective::zero();
        }
        let [x, y] = [sum.x, sum.y].map(|coordinate| Fq::new_unchecked(BigInt(coordinate.0)));
        G1Affine::new_unchecked(x, y).into()
    }

    /// Returns the scalars as whole beats. An odd count ends in padding, which the core must ignore.
    fn scalar_bytes(&self, mode: Mode) -> Vec<u8> {
        let bytes = |scalar: &Fr| match mode.contains(Mode::MONTGOMERY) {
            true => limb_bytes(&scalar.0.0),
            false => limb_bytes(&scalar.into_bigint().0),
        };
        let mut bytes: Vec<u8> = self.scalars.iter().flat_map(bytes).collect();
        bytes.resize(bytes.len().next_multiple_of(BEAT), 0xa5);
        bytes
    }

    fn point_bytes(&self) -> Vec<u8> {
        let bytes = |point: &G1Affine| [limb_bytes(&point.x.0.0), limb_bytes(&point.y.0.0)].concat();
        self.points.iter().flat_map(bytes).collect()
    }
}

fn limb_bytes(limbs: &[u64; 4]) -> Vec<u8> {
    limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect()
}

fn decode(result: &[u8; RESULT_BYTES]) -> G1Projective {
    let [x, y, z] = [0, 1, 2].map(|i| {
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(result[32 * i..32 * i + 32].chunks(8)) {
            *limb = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        let mut value = BigInt(limbs);
        if value >= Fq::MODULUS {
            value.sub_with_borrow(&Fq::MODULUS);
        }
        assert!(value < Fq::MODULUS, "a representative below 2p");
        Fq::new_unchecked(value)
    });
    let Some(inverse) = z.inverse() else {
        assert!(x.is_zero() && !y.is_zero(), "infinity is (0, y, 0)");
        return G1Projective::zero();
    };
    let point = G1Affine::new_unchecked(x * inverse, y * inverse);
    assert!(point.is_on_curve());
    point.into()
}

#[test]
fn sums_match_halo2curves_in_both_forms() {
    let bench = Bench::new(MsmModelOptions::default());
    for count in [1, 2, 3, 33, 511, 1024, 1025, 3001] {
        let pairs = Pairs::random(count, count as u64);
        for mode in [Mode::empty(), Mode::MONTGOMERY] {
            assert_eq!(bench.run(&pairs, mode), pairs.sum(), "{count} pairs, {mode:?}");
        }
    }
    assert_eq!(bench.get(ERRORS), 0);
}

#[test]
fn special_scalars_and_points() {
    let bench = Bench::new(MsmModelOptions::default());
    // Above 8,100 pairs the library batches its additions, where equal points could cause trouble.
    for count in [65, 9001] {
        let mut pairs = Pairs::random(count, 7);
        let first = pairs.points[0];
        let mut check = |change: &mut dyn FnMut(&mut Pairs, usize)| {
            (0..count).for_each(|i| change(&mut pairs, i));
            assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
        };
        check(&mut |pairs, i| pairs.scalars[i] = Fr::from(i as u64 % 2));
        check(&mut |pairs, _| pairs.scalars[0] = -Fr::one());
        check(&mut |pairs, i| pairs.points[i] = if i % 3 == 0 { G1Affine::zero() } else { pairs.points[i] });
        check(&mut |pairs, i| pairs.points[i] = if i % 2 == 0 { first } else { -first });
        check(&mut |pairs, i| pairs.scalars[i] = Fr::from(i as u64) * Fr::from(u64::MAX));
        check(&mut |pairs, i| pairs.scalars[i] = pairs.scalars[1]);
        check(&mut |pairs, i| pairs.points[i] = first);
        check(&mut |pairs, i| pairs.scalars[i] = Fr::zero());
        check(&mut |pairs, i| pairs.points[i] = G1Affine::zero());
    }
}

#[test]
fn results_differ_in_representation_and_agree_in_value() {
    let bench = Bench::new(MsmModelOptions::default());
    let pairs = Pairs::random(5, 1);
    let results: Vec<_> = (0..8)
        .map(|_| {
            bench.push(5, Mode::MONTGOMERY);
            bench.feed(&pairs, Mode::MONTGOMERY);
            bench.result().0
        })
        .collect();
    assert!(results.windows(2).all(|two| two[0] != two[1]));
    assert!(results.iter().all(|result| decode(result) == pairs.sum()));
}

#[test]
fn two_tasks_back_to_back_keep_order_labels_and_modes() {
    let bench = Bench::new(MsmModelOptions::default());
    let tasks = [(Pairs::random(301, 1), Mode::empty()), (Pairs::random(77, 2), Mode::MONTGOMERY)];
    bench.set(LABEL, 0xffff_ffff);
    for (pairs, mode) in &tasks {
        bench.push(pairs.scalars.len(), *mode);
    }
    assert_eq!(bench.get(PENDING_TASKS), 2);
    assert_eq!(bench.get(ENGINE_READY), 0);
    assert_ne!(bench.get(STATUS) & Status::TASKS_FULL.bits(), 0);
    assert_eq!(bench.get(ERRORS), 0);
    bench.push(1, Mode::empty());
    assert_eq!(bench.get(ERRORS), Errors::OVERRUN.bits());
    for (pairs, mode) in &tasks {
        bench.feed(pairs, *mode);
    }
    bench.wait(PENDING_RESULTS, 2);
    for (label, (pairs, _)) in [0xffff_ffff, 0].into_iter().zip(&tasks) {
        let (result, of) = bench.result();
        assert_eq!((decode(&result), of), (pairs.sum(), label));
    }
    assert_eq!(bench.get(TASK_LABEL), 1);
    bench.set(POP_RESULT, 1);
    assert_eq!(bench.get(ERRORS), (Errors::OVERRUN | Errors::UNDERRUN).bits());
}

#[test]
fn a_full_result_queue_holds_back_the_core() {
    let bench = Bench::new(MsmModelOptions::default());
    let pairs = Pairs::random(3, 3);
    for _ in 0..3 {
        bench.wait(ENGINE_READY, 1);
        bench.push(3, Mode::MONTGOMERY);
        bench.feed(&pairs, Mode::MONTGOMERY);
    }
    bench.wait(FINAL_ACCUMULATION, 0);
    bench.wait(PENDING_RESULTS, 2);
    assert_eq!(bench.get(PENDING_TASKS), 1);
    for label in 0..3 {
        let (result, of) = bench.result();
        assert_eq!((decode(&result), of), (pairs.sum(), label));
    }
    assert_eq!(bench.get(PENDING_TASKS), 0);
}

#[test]
fn data_may_precede_its_task() {
    let bench = Bench::new(MsmModelOptions::default());
    let pairs = Pairs::random(9, 4);
    bench.feed(&pairs, Mode::MONTGOMERY);
    assert_eq!((bench.get(SCALARS_IN_FIFO), bench.get(POINTS_IN_FIFO)), (10, 9));
    assert_eq!((bench.get(FREE_SCALARS), bench.get(FREE_POINTS)), (1014, 1015));
    bench.push(9, Mode::MONTGOMERY);
    assert_eq!(decode(&bench.result().0), pairs.sum());
    assert_eq!((bench.get64(PUSHED_SCALARS), bench.get64(PUSHED_POINTS)), (9, 9));
    assert_eq!((bench.get64(CONSUMED_SCALARS), bench.get64(CONSUMED_POINTS)), (9, 9));
    assert_eq!((bench.get(HIGH_WATER_SCALARS), bench.get(HIGH_WATER_POINTS)), (10, 9));
}

/// Fills the scalar FIFO before any points are sent: the deadlock of the real design.
fn deadlock(bench: &Bench) {
    let pairs = Pairs::random(2048, 5);
    bench.push(2048, Mode::MONTGOMERY);
    let scalars = pairs.scalar_bytes(Mode::MONTGOMERY);
    for piece in scalars.chunks(4096).take(8) {
        assert_eq!(bench.write(0, SCALAR_WINDOW, piece), AxiResponse::Okay(4096));
    }
    assert_eq!(bench.write(0, SCALAR_WINDOW, &scalars[..4096]), AxiResponse::Wait);
    // Head-of-line blocking: the points that would resolve the deadlock, like all other writes, are stuck behind it.
    assert_eq!(bench.write(1, POINT_WINDOW, &pairs.point_bytes()[..4096]), AxiResponse::Wait);
    assert_eq!(bench.write(1, SCRATCH_WINDOW, &[1; 64]), AxiResponse::Wait);
    assert_ne!(bench.get(STATUS) & Status::SCALAR_STALLED.bits(), 0);
}

fn recover(bench: &Bench) {
    bench.set(CTRL, (Ctrl::ABORT | Ctrl::FLUSH).bits());
    assert_eq!(bench.get(STATUS), 0);
    assert_eq!((bench.get(SCALARS_IN_FIFO), bench.get(POINTS_IN_FIFO)), (0, 0));
    let pairs = Pairs::random(100, 6);
    assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
}

#[test]
fn a_scalar_chunk_beyond_the_fifo_deadlocks_until_abort_and_flush() {
    let bench = Bench::new(MsmModelOptions { watchdog: 0, ..MsmModelOptions::default() });
    deadlock(&bench);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(bench.shell.progress_count(), 0);
    assert_eq!(bench.write(0, SCALAR_WINDOW, &[0; 64]), AxiResponse::Wait);
    assert!(bench.get64(STALL_SCALAR) >= 300 * 250_000, "{}", bench.get64(STALL_SCALAR));
    assert!(bench.get64(STARVE_POINT) >= 300 * 250_000);
    assert_eq!(bench.get64(STALL_POINT), 0);
    recover(&bench);
    bench.shell.wait("no progress after the flush", |seen| seen.0 > 0);
}

#[test]
fn the_watchdog_ends_a_deadlock() {
    let bench = Bench::new(MsmModelOptions::default());
    bench.set(WATCHDOG, 250_000 * 300);
    bench.set(IRQ_ENABLE, Irq::ERROR.bits());
    let start = Instant::now();
    deadlock(&bench);
    bench.shell.wait("the watchdog did not fire", |seen| seen.0 > 0 && seen.1 == [true]);
    assert!(start.elapsed() >= Duration::from_millis(300));
    for (window, channel) in [(SCALAR_WINDOW, 0), (POINT_WINDOW, 1)] {
        assert_eq!(bench.write(channel, window, &[0; 4096]), AxiResponse::SlaveError);
    }
    assert_eq!(bench.get(ERRORS), Errors::WATCHDOG.bits());
    assert_eq!(bench.get(STATUS), (Status::DROPPING | Status::BUSY).bits());
    bench.set(ERRORS, Errors::WATCHDOG.bits());
    bench.set(IRQ_STATUS, Irq::ERROR.bits());
    recover(&bench);
    bench.shell.wait("the line did not fall", |seen| seen.1 == [true, false]);
}

#[test]
fn chunks_of_half_the_depth_never_deadlock_however_small_the_fifos() {
    for (scalar_depth, point_depth) in [(4, 4), (64, 2), (1, 1), (100, 37)] {
        let bench = Bench::new(MsmModelOptions {
            scalar_depth,
            point_depth,
            watchdog: 0,
            ..MsmModelOptions::default()
        });
        let pairs = Pairs::random(501, 8);
        bench.push(501, Mode::MONTGOMERY);
        let (scalars, points) = (pairs.scalar_bytes(Mode::MONTGOMERY), pairs.point_bytes());
        for (scalars, points) in scalars.chunks(64).zip(points.chunks(128)) {
            bench.send(0, SCALAR_WINDOW, scalars);
            bench.send(0, POINT_WINDOW, points);
        }
        assert_eq!(decode(&bench.result().0), pairs.sum(), "{scalar_depth} {point_depth}");
    }
}

#[test]
fn a_write_is_accepted_in_part_and_then_waits() {
    let bench = Bench::new(MsmModelOptions { point_depth: 16, ..MsmModelOptions::default() });
    let pairs = Pairs::random(64, 20);
    let (scalars, points) = (pairs.scalar_bytes(Mode::MONTGOMERY), pairs.point_bytes());
    assert_eq!(bench.write(3, POINT_WINDOW, &points), AxiResponse::Okay(16 * 64));
    assert_eq!(bench.write(3, POINT_WINDOW, &points[16 * 64..]), AxiResponse::Wait);
    assert_eq!(bench.get(STATUS), Status::POINT_STALLED.bits());
    assert_eq!(bench.write(2, SCALAR_WINDOW, &scalars), AxiResponse::Wait);
    // The stalled channel makes another access, so its stalled transfer was given up and the others may continue.
    assert_eq!(bench.write(3, 0, &[0; 64]), AxiResponse::DecodeError);
    bench.shell.wait("no progress after the channel was released", |seen| seen.0 == 1);
    assert_eq!(bench.write(2, SCALAR_WINDOW, &scalars[..64]), AxiResponse::Okay(64));
    assert_eq!(bench.write(3, POINT_WINDOW, &points), AxiResponse::Wait);
    // If the stalled channel never returns, a flush releases the write channel.
    bench.set(CTRL, Ctrl::FLUSH.bits());
    bench.shell.wait("no progress after the flush", |seen| seen.0 == 2);
    assert_eq!(bench.write(2, SCALAR_WINDOW, &scalars), AxiResponse::Okay(64 * 32));
    bench.push(64, Mode::MONTGOMERY);
    assert_eq!(
        bench.write(3, POINT_WINDOW, &points),
        AxiResponse::Okay(64 * 64),
        "the core makes space as it consumes"
    );
    assert_eq!(decode(&bench.result().0), pairs.sum());
}

#[test]
fn two_channels_in_step_feed_one_task() {
    let bench = Bench::new(MsmModelOptions { watchdog: 0, ..MsmModelOptions::default() });
    let pairs = Pairs::random(10_001, 21);
    bench.push(10_001, Mode::MONTGOMERY);
    let step = std::sync::Barrier::new(2);
    let feed = |channel, window, bytes: Vec<u8>, size: usize| {
        let (bench, step) = (&bench, &step);
        move || {
            for chunk in bytes.chunks(512 * size) {
                bench.send(channel, window, chunk);
                step.wait();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(feed(0, SCALAR_WINDOW, pairs.scalar_bytes(Mode::MONTGOMERY), 32));
        scope.spawn(feed(1, POINT_WINDOW, pairs.point_bytes(), 64));
    });
    assert_eq!(decode(&bench.result().0), pairs.sum());
}

#[test]
fn a_flipped_byte_makes_the_result_wrong() {
    let pairs = Pairs::random(1500, 9);
    for window in [Window::Scalars, Window::Points] {
        let flip = Some(BitFlip { window, byte: 1400 * 32 + 3, mask: 0x10 });
        let bench = Bench::new(MsmModelOptions { flip, ..MsmModelOptions::default() });
        assert_ne!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
        assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum(), "the fault happens once");
    }
}

#[test]
fn hostile_bytes_give_a_valid_point() {
    let bench = Bench::new(MsmModelOptions::default());
    let mut rng = StdRng::seed_from_u64(10);
    for count in [1, 40, 9000] {
        for fill in [None, Some(0xff), Some(0x30)] {
            let mut bytes = vec![fill.unwrap_or(0); count * 96];
            if fill.is_none() {
                rng.fill(bytes.as_mut_slice());
            }
            let (scalars, points) = bytes.split_at(count * 32);
            bench.push(count, Mode::empty());
            let mut scalars = scalars.to_vec();
            scalars.resize(scalars.len().next_multiple_of(64), 0xff);
            for (scalars, points) in scalars.chunks(512 * 32).zip(points.chunks(512 * 64)) {
                bench.send(0, SCALAR_WINDOW, scalars);
                bench.send(0, POINT_WINDOW, points);
            }
            let _: G1Projective = decode(&bench.result().0);
        }
    }
    // Values are reduced: p is not a valid coordinate, but (p, p) is still infinity, and the scalar r + 1 is 1.
    let mut infinity = limb_bytes(&Fq::MODULUS.0);
    infinity.extend_from_within(..);
    let one_above = Fr::MODULUS.0[0] + 1;
    let scalar = limb_bytes(&[one_above, Fr::MODULUS.0[1], Fr::MODULUS.0[2], Fr::MODULUS.0[3]]);
    let pairs = Pairs::random(1, 11);
    bench.push(2, Mode::empty());
    bench.send(0, SCALAR_WINDOW, &[scalar.clone(), scalar].concat());
    bench.send(0, POINT_WINDOW, &[infinity, pairs.point_bytes()].concat());
    assert_eq!(decode(&bench.result().0), pairs.points[0].into_group());
}

#[test]
fn windows_answer_as_specified() {
    let bench = Bench::new(MsmModelOptions::default());
    assert_eq!(bench.write(0, SCALAR_WINDOW + 32, &[0; 64]), AxiResponse::SlaveError);
    assert_eq!(bench.write(0, POINT_WINDOW, &[0; 65]), AxiResponse::SlaveError);
    assert_eq!(bench.write(0, RESULT_WINDOW, &[0; 64]), AxiResponse::SlaveError);
    assert_eq!(bench.get(ERRORS), Errors::STROBE.bits());
    for address in [0, SCALAR_WINDOW - 64, 0x3000_0000, 0x6000_0000, 1 << 40, u64::MAX - 63] {
        assert_eq!(bench.write(0, address, &[0; 64]), AxiResponse::DecodeError, "{address:#x}");
    }
    let mut buffer = [9; 128];
    let read = |address, burst, buffer: &mut [u8]| bench.msm.read(0, address, burst, &buffer.into());
    assert_eq!(read(SCALAR_WINDOW, Burst::Increment, &mut buffer), AxiResponse::DecodeError);
    assert_eq!(bench.get(ERRORS), (Errors::STROBE | Errors::DECODE).bits());
    assert_eq!(bench.get(REFUSED_WRITES), 9, "reads do not count");
    bench.set(ERRORS, u32::MAX);
    assert_eq!((bench.get(ERRORS), bench.get(REFUSED_WRITES)), (0, 9));
    bench.set(CTRL, Ctrl::SOFT_RESET.bits());
    assert_eq!(bench.get(REFUSED_WRITES), 0);
    assert_eq!(read(RESULT_WINDOW, Burst::Increment, &mut buffer), AxiResponse::Okay(128));
    assert_eq!(buffer, [0; 128], "without a result the window reads zeros");
    assert_eq!(read(RESULT_WINDOW + 0xf00_0000, Burst::Increment, &mut buffer), AxiResponse::Okay(128));
    // Window addresses alias.
    assert_eq!(bench.write(0, SCALAR_WINDOW + WINDOW_SIZE - 64, &[0; 64]), AxiResponse::Okay(64));
    assert_eq!(bench.get(SCALARS_IN_FIFO), 2);
}

#[test]
fn scratch_memory_wraps_survives_reset_and_keeps_the_last_beat_of_a_fixed_burst() {
    let bench = Bench::new(MsmModelOptions::default());
    let bytes: Vec<u8> = (0..200).collect();
    assert_eq!(bench.write(2, SCRATCH_WINDOW + 3 * SCRATCH_SIZE - 100, &bytes), AxiResponse::Okay(200));
    bench.msm.reset();
    let read = |address, burst, count| {
        let mut buffer = vec![0; count];
        let answer = bench.msm.read(0, address, burst, &buffer.as_mut_slice().into());
        assert_eq!(answer, AxiResponse::Okay(count));
        buffer
    };
    assert_eq!(read(SCRATCH_WINDOW + SCRATCH_SIZE - 100, Burst::Increment, 100), bytes[..100]);
    assert_eq!(read(SCRATCH_WINDOW, Burst::Increment, 100), bytes[100..]);
    let mut beats: Vec<u8> = (0..128).collect();
    bench.msm.write(0, SCRATCH_WINDOW, Burst::Fixed, &beats.as_mut_slice().into());
    assert_eq!(read(SCRATCH_WINDOW, Burst::Increment, 64), beats[64..]);
    assert_eq!(read(SCRATCH_WINDOW, Burst::Fixed, 128), [&beats[64..], &beats[64..]].concat());
}

#[test]
fn abort_drops_tasks_and_keeps_results() {
    let bench = Bench::new(MsmModelOptions::default());
    let pairs = Pairs::random(9, 12);
    bench.push(9, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    bench.wait(RESULT_VALID, 1);
    bench.push(1000, Mode::MONTGOMERY);
    bench.push(1000, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    bench.wait(ELEMENTS_LEFT, 991);
    bench.set(CTRL, Ctrl::ABORT.bits());
    assert_eq!((bench.get(PENDING_TASKS), bench.get(PENDING_RESULTS)), (0, 1));
    assert_eq!(bench.get(SCALARS_IN_FIFO), 0, "the partially consumed beat is dropped with its task");
    assert_eq!(decode(&bench.result().0), pairs.sum());
    assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
}

#[test]
fn abort_during_a_reduction_discards_it() {
    let bench = Bench::new(MsmModelOptions::default());
    let pairs = Pairs::random(20_000, 13);
    bench.push(20_000, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    bench.wait(FINAL_ACCUMULATION, 1);
    bench.set(CTRL, Ctrl::ABORT.bits());
    let small = Pairs::random(3, 14);
    assert_eq!(bench.run(&small, Mode::MONTGOMERY), small.sum());
    assert_eq!(bench.get(PENDING_RESULTS), 0);
}

#[test]
fn soft_reset_restores_the_power_up_state() {
    let bench = Bench::new(MsmModelOptions::default());
    let registers = |bench: &Bench| {
        (0..0x300)
            .step_by(4)
            .filter(|r| *r < CYCLES || *r > CYCLES + 4)
            .map(|r| bench.get(r))
            .collect::<Vec<_>>()
    };
    let fresh = registers(&bench);
    let pairs = Pairs::random(7, 15);
    bench.set(IRQ_ENABLE, 3);
    let _: G1Projective = bench.run(&pairs, Mode::MONTGOMERY);
    bench.push(7, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    bench.wait(RESULT_VALID, 1);
    bench.write(0, 0, &[0; 64]);
    bench.set(CTRL, Ctrl::SOFT_RESET.bits());
    assert_eq!(registers(&bench), fresh);
    assert_eq!(bench.run(&pairs, Mode::MONTGOMERY), pairs.sum());
}

#[test]
fn identity_registers() {
    let bench = Bench::new(MsmModelOptions::default());
    assert_eq!(bench.get(IMAGE_ID), IMAGE_ID_VALUE);
    assert_eq!(bench.get(IMAGE_PARAMETERS), 0x0011_0c10);
    assert_eq!(bench.get(EXTENSION_ID), EXTENSION_ID_VALUE);
    assert_eq!(bench.get(EXTENSION_VERSION), 0x0001_0000);
    assert_eq!(bench.get(BUILD), 0x0001_140d);
    assert_eq!((bench.get(SCALAR_DEPTH), bench.get(POINT_DEPTH)), (1024, 1024));
    assert_eq!((bench.get(CLOCK_KHZ), bench.get(QUEUE_DEPTH)), (250_000, 0x0202));
    assert_eq!(bench.get(0x1000), 0);
    assert_eq!(bench.msm.user_read(0, 1 << 40), 0);
    bench.msm.user_write(0, 1 << 40, 1);
    for pairs in [0, bench.get(MAX_ELEMENTS) + 1] {
        bench.set(ERRORS, u32::MAX);
        bench.push(pairs as usize, Mode::empty());
        assert_eq!((bench.get(ERRORS), bench.get(PENDING_TASKS)), (Errors::OVERRUN.bits(), 0));
    }
}

#[test]
fn a_result_raises_the_interrupt_until_it_is_acknowledged() {
    let bench = Bench::new(MsmModelOptions::default());
    bench.set(IRQ_ENABLE, Irq::RESULT.bits());
    let pairs = Pairs::random(2, 16);
    bench.push(2, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    bench.shell.wait("the line did not rise", |seen| seen.1 == [true]);
    assert_eq!(bench.get(IRQ_STATUS), Irq::RESULT.bits());
    bench.set(IRQ_STATUS, Irq::RESULT.bits());
    bench.shell.wait("the line did not fall", |seen| seen.1 == [true, false]);
    assert_eq!(bench.get(RESULT_VALID), 1);
}

#[test]
fn the_core_keeps_to_its_rate() {
    let (created, rate) = (Instant::now(), 200_000.0);
    let bench = Bench::new(MsmModelOptions { pairs_per_second: Some(rate), ..MsmModelOptions::default() });
    let pairs = Pairs::random(20_000, 17);
    let start = Instant::now();
    bench.push(20_000, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    bench.wait(ELEMENTS_LEFT, 0);
    let taken = start.elapsed();
    assert!(taken >= Duration::from_millis(99), "{taken:?}");
    assert_eq!(decode(&bench.result().0), pairs.sum());
    let clocks = bench.get64(PHASE1_CLOCKS);
    assert!((24_000_000..).contains(&clocks), "{clocks}");
    let core = CoreCycles::new(13);
    let busy = core.pairs(20_000) + core.reduction(true);
    assert_eq!(bench.get64(CORE_BUSY), busy, "whatever the rate");
    // The time in which the model computed counts as that of the design.
    let cycles = bench.get64(CYCLES);
    let waited = created.elapsed().saturating_sub(Duration::from_millis(99)).as_nanos() as u64 / 4;
    assert!((busy..=busy + waited).contains(&cycles), "{cycles}");
}

#[test]
fn the_checksum_core_returns_checksums() {
    let bench = Bench::new(MsmModelOptions { core: Core::Checksum, ..MsmModelOptions::default() });
    assert_eq!(bench.get(IMAGE_PARAMETERS) >> 28, 1);
    let pairs = Pairs::random(5001, 18);
    let (scalars, points) = (pairs.scalar_bytes(Mode::MONTGOMERY), pairs.point_bytes());
    bench.push(5001, Mode::MONTGOMERY);
    // All scalars first, then all points: this core never waits.
    bench.send(0, SCALAR_WINDOW, &scalars);
    bench.send(0, POINT_WINDOW, &points);
    let (result, _) = bench.result();
    assert_eq!(result[..32], Checksum::of(&scalars[..5001 * 32]));
    assert_eq!(result[32..64], Checksum::of(&points));
    assert_eq!(result[64..72], 5001u64.to_le_bytes());
    let mut swapped = points.clone();
    swapped.rotate_left(64);
    assert_ne!(Checksum::of(&points), Checksum::of(&swapped));
}

/// Returns the counters and results of a design.
fn outcome(state: &State) -> impl PartialEq + std::fmt::Debug {
    let clocks = &state.clocks;
    let starved = [clocks.starve_scalar, clocks.starve_point, clocks.starve_both];
    let others = [state.busy_cycles, clocks.stall_scalar, clocks.stall_point, clocks.phase1];
    let fifos = [&state.scalars, &state.points].map(|fifo| (fifo.pushed, fifo.consumed, fifo.high_water));
    (starved, others, fifos, state.results.clone(), state.tasks.len(), state.irq_status)
}

#[test]
fn the_fast_path_has_the_same_effect_as_the_normal_path() {
    let mut fast_pushes = 0;
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let flip = Some(BitFlip { window: Window::Points, byte: rng.gen_range(0..10_000), mask: 1 });
        let options = MsmModelOptions {
            core: Core::Checksum,
            scalar_depth: 64,
            point_depth: 32,
            flip,
            ..MsmModelOptions::default()
        };
        let [mut plain, mut lazy] = [0, 1].map(|_| State::new(options.clone(), 0, 0));
        let mut now = 0;
        for _ in 0..300 {
            now += rng.gen_range(0..1000);
            let (task, result, count) = (rng.gen_bool(0.05), rng.gen_bool(0.05), rng.gen_range(1..400));
            for state in [&mut plain, &mut lazy].into_iter().filter(|_| task || result) {
                state.advance(now);
                state.n_elements = count;
                let _ = if task { state.push_task() } else { state.pop_result() };
                state.advance(now);
            }
            let window = if rng.gen_bool(0.5) { Window::Scalars } else { Window::Points };
            let mut bytes = vec![0; BEAT * rng.gen_range(1..20)];
            rng.fill(&mut bytes[..]);
            let data = VolatileSlice::from(&mut bytes[..]);
            plain.advance(now);
            let expected = plain.push(0, window, &data, now);
            let done = if lazy.push_fast(window, &data) {
                fast_pushes += 1;
                data.len()
            } else {
                lazy.advance(now);
                lazy.push(0, window, &data, now)
            };
            assert_eq!(done, expected);
        }
        plain.advance(now);
        lazy.advance(now);
        assert_eq!(outcome(&lazy), outcome(&plain), "seed {seed}");
    }
    assert!(fast_pushes > 1000, "{fast_pushes}");
}

#[test]
fn threads_end_with_the_design() {
    let bench = Bench::new(MsmModelOptions::default());
    let pairs = Pairs::random(3000, 19);
    bench.push(3000, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    let shared = Arc::downgrade(&bench.msm.shared);
    drop(bench);
    assert_eq!(shared.strong_count(), 0);
}

proptest! {
    /// Compares the FIFO with a queue of bytes: pushes of beats, pops of scalars, and padding.
    #[test]
    fn the_fifo_is_a_queue(depth in 1..40usize, steps in prop::collection::vec((0..3u8, 0..30usize), 1..200)) {
        let mut fifo = fifo::Fifo::new(depth, 32);
        let mut queue = std::collections::VecDeque::new();
        let mut next = 0u8;
        for (kind, amount) in steps {
            match kind {
                0 => {
                    let count = (amount * BEAT).min(fifo.room());
                    let mut bytes: Vec<u8> = (0..count + BEAT).map(|i| next.wrapping_add(i as u8)).collect();
                    next = next.wrapping_add(count as u8).wrapping_add(7);
                    queue.extend(&bytes[BEAT..]);
                    fifo.push(&bytes.as_mut_slice().into(), BEAT, count, None);
                }
                1 => {
                    let count = amount.min(fifo.elements());
                    let mut popped = vec![];
                    fifo.pop(count, |bytes| popped.extend_from_slice(bytes));
                    prop_assert_eq!(popped, queue.drain(..count * 32).collect::<Vec<u8>>());
                }
                _ => {
                    fifo.drop_padding();
                    queue.drain(..queue.len() % BEAT);
                }
            }
            prop_assert_eq!(fifo.elements() * 32, queue.len());
            prop_assert_eq!(fifo.pushed, fifo.consumed + fifo.elements() as u64);
            prop_assert!(fifo.elements() + fifo.free() <= fifo.depth());
        }
    }
}
