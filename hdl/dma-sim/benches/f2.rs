//! One MSM on the image for F2: engine and MSM design in RTL, fed by one chain of descriptors, as the driver's programs are.
//!
//! `cargo bench -p xdma-rtl-dma --features f2 --bench f2 -- 20` runs 2^20 pairs, which is also the default. The cycles are exact. Host
//! memory responds after 500 cycles, which are 2 microseconds at 250 MHz, with 32 reads under way.

use halo2curves::bn256::{Fq, Fr, G1, G1Affine};
use halo2curves::ff::{Field, PrimeField};
use halo2curves::group::Curve;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Instant;
use xdma_regs::msm::*;
use xdma_rtl_dma::{Bus, F2, Image, Memory, Transfer, list};

const LATENCY: u64 = 500;
const READS: usize = 32;
/// The largest share of the time in which the core may wait for data.
const MAX_IDLE: f64 = 0.001;
/// Pairs in a chunk: half of the design's FIFOs.
const CHUNK: usize = 512;
/// Where the design's registers begin in BAR0.
const USER: u32 = 0x1_0000;
const SCALARS: u64 = 0x10_0000_0000;
const POINTS: u64 = 0x20_0000_0000;
const LIST: u64 = 0x4000_0000;
const WORD: u64 = 0x5000_0000;
const RESULT_AT: u64 = 0x6000_0000;

struct Host {
    image: F2,
    memory: Memory,
}

impl Host {
    fn step(&mut self) {
        self.memory.drive(&mut self.image.ports.pcim);
        self.image.ports.irq_ack = self.image.ports.irq_req;
        self.image.step();
        self.memory.take(&self.image.ports.pcim);
    }

    fn get(&mut self, register: u32) -> u32 {
        self.image.ports.ocl.begin_read(register);
        loop {
            self.step();
            if let Some(value) = self.image.ports.ocl.end_read() {
                return value;
            }
        }
    }

    fn get64(&mut self, register: u32) -> u64 {
        u64::from(self.get(USER + register)) | u64::from(self.get(USER + register + 4)) << 32
    }

    fn set(&mut self, register: u32, value: u32) {
        self.image.ports.ocl.begin_write(register, value, 0xf);
        loop {
            self.step();
            if self.image.ports.ocl.end_write() {
                return;
            }
        }
    }

    /// Starts a chain on a channel, whose registers are at `base`.
    fn start(&mut self, to_card: bool, transfers: &[Transfer]) {
        let base = if to_card { 0 } else { 0x1000 };
        let (bytes, adjacent) = list(to_card, LIST, transfers);
        self.memory.poke(LIST, &bytes);
        self.memory.poke(WORD, &[0; 4]);
        self.set(base + 0x04, 0);
        for (offset, value) in [(0x88, WORD), (0x4080, LIST)] {
            self.set(base + offset, value as u32);
            self.set(base + offset + 4, (value >> 32) as u32);
        }
        self.set(base + 0x4088, adjacent);
        self.set(base + 0x04, 0x04f8_3e7f);
    }

    /// Runs until the channel has written back the count of a chain.
    fn finish(&mut self, transfers: &[Transfer]) {
        while self.memory.peek(WORD, 4) != (transfers.len() as u32).to_le_bytes() {
            (0..64).for_each(|_| self.step());
        }
    }
}

fn main() {
    let log: u32 = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(20);
    let (scalars, points) = pairs(1 << log);
    let expected = halo2curves::msm::msm_best(&scalars, &points);
    let mut host = Host { image: F2::new(Image::Full), memory: Memory::new(LATENCY, READS, 1) };
    let mut transfers = vec![];
    for (number, (scalars, points)) in scalars.chunks(CHUNK).zip(points.chunks(CHUNK)).enumerate() {
        let first = (number * CHUNK) as u64;
        let bytes: Vec<u8> = scalars.iter().flat_map(|scalar| scalar.to_repr().as_ref().to_vec()).collect();
        host.memory.poke(SCALARS + 32 * first, &bytes);
        transfers.push((SCALARS + 32 * first, SCALAR_WINDOW, bytes.len() as u32));
        let bytes: Vec<u8> =
            points.iter().flat_map(|point| [limbs(point.x), limbs(point.y)].concat()).collect();
        host.memory.poke(POINTS + 64 * first, &bytes);
        transfers.push((POINTS + 64 * first, POINT_WINDOW, bytes.len() as u32));
    }
    while host.get(USER + ENGINE_READY) != 1 {}
    let clock = Instant::now();
    let begin = host.image.cycle();
    host.set(USER + N_ELEMENTS, 1 << log);
    host.set(USER + MODE, 0);
    host.set(USER + PUSH_TASK, 1);
    host.start(true, &transfers);
    let doorbell = host.image.cycle();
    host.finish(&transfers);
    let fed = host.image.cycle();
    while host.get(USER + RESULT_VALID) != 1 {
        (0..64).for_each(|_| host.step());
    }
    let result = [(RESULT_AT, RESULT_WINDOW, RESULT_BYTES as u32)];
    host.start(false, &result);
    host.finish(&result);
    let end = host.image.cycle();
    let seconds = clock.elapsed().as_secs_f64();
    assert_eq!(decode(&host.memory.peek(RESULT_AT, RESULT_BYTES)), expected, "the result is wrong");
    let phase1 = host.get64(PHASE1_CLOCKS);
    let starved = [STARVE_SCALAR, STARVE_POINT, STARVE_BOTH].map(|register| host.get64(register));
    let idle = starved.iter().sum::<u64>() as f64 / phase1 as f64;
    println!(
        "2^{log} pairs, result correct: {} cycles from the doorbell to the result in host memory",
        end - doorbell
    );
    println!(
        "{} cycles from the first register write, {} from the doorbell to the last write-back of the pairs",
        end - begin,
        fed - doorbell
    );
    println!(
        "{phase1} cycles from the first pair to the last; the core waited for data {:.4} % of them",
        idle * 100.0
    );
    println!("{seconds:.1} s, {:.2} million cycles per second", (end - begin) as f64 / seconds / 1e6);
    assert!(idle <= MAX_IDLE, "the core waited too long");
}

/// Random scalars, and points in arithmetic progression, which are fast to compute.
fn pairs(count: usize) -> (Vec<Fr>, Vec<G1Affine>) {
    let mut random = StdRng::seed_from_u64(1);
    let mut any = || Fr::from_raw(std::array::from_fn(|_| random.random()));
    let (first, step) = (G1::generator() * any(), G1::generator() * any());
    let points: Vec<G1> =
        std::iter::successors(Some(first), |point| Some(point + step)).take(count).collect();
    let mut affine = vec![G1Affine::default(); count];
    G1::batch_normalize(&points, &mut affine);
    ((0..count).map(|_| any()).collect(), affine)
}

/// The bytes of the Montgomery form.
fn limbs(value: Fq) -> Vec<u8> {
    value.0.iter().flat_map(|limb| limb.to_le_bytes()).collect()
}

fn decode(result: &[u8]) -> G1 {
    let [x, y, z] = [0, 1, 2].map(|i| {
        let limb = |n: usize| u64::from_le_bytes(result[32 * i + 8 * n..][..8].try_into().expect("8 bytes"));
        // The multiplication reduces a value of p or more.
        Fq(std::array::from_fn(limb)) * Fq::ONE
    });
    G1 { x, y, z }
}
