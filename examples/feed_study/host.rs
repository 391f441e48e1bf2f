//! The host's side of a run: which transfers begin when.

use crate::{Core, Mode};
use anyhow::{Result, ensure};
use halo2curves::bn256::{Fq, Fr, G1, G1Affine};
use halo2curves::ff::Field;
use halo2curves::group::Curve;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use xdma::regs::msm::{
    self as regs, BEAT, CONSUMED_POINTS, MODE, N_ELEMENTS, PHASE1_CLOCKS, POINT_BYTES, POINT_WINDOW,
    POINTS_IN_FIFO, PUSH_TASK, RESULT_BYTES, RESULT_VALID, RESULT_WINDOW, SCALAR_BYTES, SCALAR_WINDOW,
    SCALARS_IN_FIFO, STARVE_BOTH, STARVE_POINT, STARVE_SCALAR, WATCHDOG,
};
use xdma_emulator::logic::msm::Checksum;
use xdma_rtl::{Burst, Master, Variant};

/// Cycles a microsecond, at 250 MHz.
const CLOCKS_A_MICROSECOND: f64 = 250.0;
/// Cycles without any movement after which nothing will move any more: longer than a pair takes.
const STUCK: u64 = 20_000;
/// Cycles that the end of a task may take: pairs that are in the FIFOs, and the reduction.
const PATIENCE: u64 = 20_000_000;
/// A page of the host, and the most that a burst has.
const PAGE: usize = 4096;
/// Where in a page an unaligned buffer begins.
const SKEW: usize = 1024;
/// Points of a run's course that are looked at.
const SAMPLES: u64 = 400;

/// One run's setting.
#[derive(Clone, Debug)]
pub struct Setup {
    pub mode: Mode,
    pub chunk: usize,
    pub depth: usize,
    pub latency_us: f64,
    pub jitter: f64,
    pub core: Core,
    pub core_cycles: u32,
    pub aligned: bool,
}

/// What came of it.
pub struct Run {
    pub setup: Setup,
    pub pairs: usize,
    /// From the first pair that the core took to the last.
    pub cycles: u64,
    /// Share of these in which the core could have taken a pair and a FIFO was empty.
    pub core_idle: f64,
    pub deadlock: bool,
    /// The result is right.
    pub verified: bool,
}

/// Pairs, and what the core should make of them.
pub struct Data {
    pub pairs: usize,
    scalars: Vec<u8>,
    points: Vec<u8>,
    sum: Option<G1>,
}

impl Data {
    pub fn random(pairs: usize, core: Core) -> Self {
        let mut random = StdRng::seed_from_u64(1);
        if core == Core::Stub {
            let mut noise = |count: usize| (0..count).map(|_| random.random()).collect::<Vec<u8>>();
            let scalars = noise(pairs.next_multiple_of(2) * SCALAR_BYTES);
            return Self { pairs, scalars, points: noise(pairs * POINT_BYTES), sum: None };
        }
        let mut any = || Fr::from_raw(std::array::from_fn(|_| random.random()));
        let factors: Vec<Fr> = (0..pairs).map(|_| any()).collect();
        let (mut point, step) = (G1::generator() * any(), G1::generator() * any());
        let next = std::iter::repeat_with(|| {
            point += step;
            point
        });
        let mut affine = vec![G1Affine::default(); pairs];
        G1::batch_normalize(&next.take(pairs).collect::<Vec<_>>(), &mut affine);
        let bytes = |limbs: &[u64; 4]| limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect::<Vec<u8>>();
        let mut scalars: Vec<u8> = factors.iter().flat_map(|factor| bytes(&factor.0)).collect();
        scalars.resize(scalars.len().next_multiple_of(BEAT), 0);
        let points =
            affine.iter().flat_map(|point| [bytes(&point.x.0), bytes(&point.y.0)].concat()).collect();
        Self { pairs, scalars, points, sum: Some(halo2curves::msm::msm_best(&factors, &affine)) }
    }

    /// The pairs are real ones.
    pub fn has_sum(&self) -> bool {
        self.sum.is_some()
    }

    fn is_right(&self, result: &[u8]) -> bool {
        let Some(sum) = &self.sum else {
            return result[..32] == Checksum::of(&self.scalars[..self.pairs * SCALAR_BYTES])
                && result[32..64] == Checksum::of(&self.points)
                && result[64..72] == (self.pairs as u64).to_le_bytes();
        };
        let coordinate = |i: usize| {
            let limb = |n: usize| u64::from_le_bytes(std::array::from_fn(|b| result[32 * i + 8 * n + b]));
            // Multiplied, so that either representative will do.
            Fq(std::array::from_fn(limb)) * Fq::ONE
        };
        let [x, y, z] = [0, 1, 2].map(coordinate);
        z != Fq::ZERO && G1 { x, y, z } == *sum
    }
}

/// A part of the data on its way to a window.
struct Transfer<'a> {
    channel: u8,
    window: u64,
    bytes: &'a [u8],
}

impl Transfer<'_> {
    /// Its bursts: none crosses a page of the host, nor 4 KiB of the card's addresses.
    fn bursts(&self, aligned: bool) -> Vec<&[u8]> {
        if aligned {
            return self.bytes.chunks(PAGE).collect();
        }
        // Every page of the card's addresses is made of the ends of two of the host.
        let halves = |page| {
            let (first, second): (&[u8], &[u8]) = <[u8]>::split_at(page, (PAGE - SKEW).min(page.len()));
            [first, second]
        };
        self.bytes.chunks(PAGE).flat_map(halves).filter(|burst| !burst.is_empty()).collect()
    }
}

/// Transfers that begin together, a latency after the last ones ended.
fn steps<'a>(setup: &Setup, data: &'a Data) -> Vec<Vec<Transfer<'a>>> {
    let scalars = data.scalars.chunks(setup.chunk * SCALAR_BYTES);
    let points = data.points.chunks(setup.chunk * POINT_BYTES);
    let two = setup.mode == Mode::TwoChannel;
    let chunks = scalars.zip(points).map(|(scalars, points)| {
        let scalars = Transfer { channel: 0, window: SCALAR_WINDOW, bytes: scalars };
        [scalars, Transfer { channel: two as u8, window: POINT_WINDOW, bytes: points }]
    });
    match setup.mode {
        Mode::Chunked => chunks.flatten().map(|transfer| vec![transfer]).collect(),
        Mode::TwoChannel => chunks.map(Vec::from).collect(),
        Mode::Program => vec![chunks.flatten().collect()],
    }
}

/// A moment of a run.
pub struct Sample {
    pub cycle: u64,
    /// In the FIFOs.
    pub scalars: u32,
    pub points: u32,
    /// Cycles that the core has waited so far.
    pub idle: u64,
}

/// Watches a run.
pub type Watch<'a> = &'a mut dyn FnMut(Sample);

struct Bench<'a> {
    master: Master,
    watch: Watch<'a>,
    next_sample: u64,
    sample: u64,
}

impl Bench<'_> {
    fn get64(&mut self, register: u32) -> u64 {
        u64::from(self.master.register(register)) | u64::from(self.master.register(register + 4)) << 32
    }

    fn idle_so_far(&mut self) -> u64 {
        self.get64(STARVE_BOTH) + self.get64(STARVE_SCALAR) + self.get64(STARVE_POINT)
    }

    /// Some cycles, and a look at the FIFOs when it is time; how many there were.
    fn advance(&mut self, max: u64) -> u64 {
        let now = self.master.cycles();
        if now >= self.next_sample {
            self.next_sample = now + self.sample;
            let scalars = self.master.register(SCALARS_IN_FIFO);
            let points = self.master.register(POINTS_IN_FIFO);
            let idle = self.idle_so_far();
            (self.watch)(Sample { cycle: now, scalars, points, idle });
            return self.master.cycles() - now;
        }
        self.master.run(max.min(self.next_sample - now))
    }

    /// Cycles, that many if sampling does not take a few more.
    fn idle(&mut self, cycles: u64) {
        let end = self.master.cycles() + cycles;
        while self.master.cycles() < end {
            let left = end - self.master.cycles();
            self.advance(left);
        }
    }

    /// Until every write is answered; `false` if nothing moves any more.
    fn drain(&mut self) -> bool {
        let mut quiet = 0;
        while self.master.writes_open() > 0 {
            let moved = self.master.moves();
            let clocks = self.advance(STUCK);
            quiet = if self.master.moves() == moved { quiet + clocks } else { 0 };
            if quiet > STUCK {
                return false;
            }
        }
        true
    }
}

/// One run.
pub fn run(setup: &Setup, data: &Data, watch: Watch<'_>) -> Result<Run> {
    let variant = match (setup.core, setup.depth) {
        (Core::Stub, 1024) => Variant::Stub,
        (Core::Stub, 4096) => Variant::StubDeep,
        (Core::Real, 1024) => Variant::Full,
        (_, depth) => anyhow::bail!("the simulation is not built with FIFOs of {depth} for this core"),
    };
    let mut master = Master::new(variant);
    if setup.core == Core::Stub {
        ensure!(master.model().set_pair_cycles(setup.core_cycles), "the stub's rate cannot be set");
    } else {
        // The buckets are cleared first.
        master.idle(100_000);
    }
    let begin = master.cycles();
    let sample = (data.pairs as u64 * u64::from(setup.core_cycles) / SAMPLES).max(64);
    let mut bench = Bench { master, watch, next_sample: begin, sample };
    let mode = if setup.core == Core::Real { regs::Mode::MONTGOMERY } else { regs::Mode::empty() };
    for (register, value) in
        [(WATCHDOG, 0), (N_ELEMENTS, data.pairs as u32), (MODE, mode.bits()), (PUSH_TASK, 1)]
    {
        bench.master.set_register(register, value);
    }
    let mut random = StdRng::seed_from_u64(2);
    let mut before_first = None;
    for step in steps(setup, data) {
        let extra = -setup.jitter * (1.0 - random.random::<f64>()).ln();
        bench.idle((setup.latency_us * CLOCKS_A_MICROSECOND * (1.0 + extra)) as u64);
        queue(&mut bench.master, &step, setup.aligned);
        // What the core waited before its first pair is not counted.
        while before_first.is_none() && bench.master.writes_open() > 0 {
            if bench.get64(CONSUMED_POINTS) > 0 {
                before_first = Some(bench.idle_so_far());
            } else if bench.master.run(STUCK) == STUCK {
                break;
            }
        }
        if !bench.drain() {
            let cycles = bench.master.cycles() - begin;
            let setup = setup.clone();
            return Ok(Run {
                setup,
                pairs: data.pairs,
                cycles,
                core_idle: 1.0,
                deadlock: true,
                verified: false,
            });
        }
    }
    let end = bench.master.cycles() + PATIENCE;
    while bench.master.register(RESULT_VALID) == 0 {
        ensure!(bench.master.cycles() < end, "no result");
        bench.advance(1000);
    }
    let tag = bench.master.read(0, RESULT_WINDOW, Burst::Increment, RESULT_BYTES);
    ensure!(bench.master.finish(10_000), "the result cannot be read");
    let result = bench.master.read_done(tag).map_or(vec![], |(_, bytes)| bytes);
    let cycles = bench.get64(PHASE1_CLOCKS);
    let idle = bench.idle_so_far() - before_first.unwrap_or(0);
    Ok(Run {
        setup: setup.clone(),
        pairs: data.pairs,
        cycles,
        core_idle: idle as f64 / cycles.max(1) as f64,
        deadlock: false,
        verified: data.is_right(&result),
    })
}

/// Bursts in the order in which they come to the card's port: two channels take turns.
fn queue(master: &mut Master, step: &[Transfer], aligned: bool) {
    let queue = |master: &mut Master, transfer: &Transfer, burst: &[u8], done: &mut u64| {
        let at = transfer.window + *done % PAGE as u64;
        let tag = master.write(transfer.channel, at, Burst::Increment, burst);
        master.forget(tag);
        *done += burst.len() as u64;
    };
    if let [first, second] = step
        && first.channel != second.channel
    {
        let bursts = [first.bursts(aligned), second.bursts(aligned)];
        let mut done = [0, 0];
        for turn in 0..bursts[0].len().max(bursts[1].len()) {
            for (channel, transfer) in [first, second].into_iter().enumerate() {
                if let Some(burst) = bursts[channel].get(turn) {
                    queue(master, transfer, burst, &mut done[channel]);
                }
            }
        }
        return;
    }
    for transfer in step {
        let mut done = 0;
        for burst in transfer.bursts(aligned) {
            queue(master, transfer, burst, &mut done);
        }
    }
}
