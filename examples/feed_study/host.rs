//! A model of the host, which determines when each transfer starts.

use crate::{Core, FeedMode};
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

/// Cycles per microsecond, at 250 MHz.
const CYCLES_PER_MICROSECOND: f64 = 250.0;
/// Cycles without progress that indicate a deadlock; more than a pair takes.
const STALL_CYCLES: u64 = 20_000;
/// Limit for the end of a task, in cycles: consuming the pairs in the FIFOs, and the reduction.
const RESULT_LIMIT: u64 = 20_000_000;
/// Size of a host page, and the maximum size of a burst.
const PAGE: usize = 4096;
/// Offset of an unaligned buffer in its page.
const SKEW: usize = 1024;
/// Number of samples per run.
const SAMPLES: u64 = 400;

/// The parameters of a run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    pub mode: FeedMode,
    pub chunk: usize,
    pub depth: usize,
    pub latency_us: f64,
    pub jitter: f64,
    pub core: Core,
    pub core_cycles: u32,
    pub aligned: bool,
}

/// The result of a run.
pub struct Run {
    pub config: RunConfig,
    pub pairs: usize,
    /// Cycles from the first pair that the core consumed to the last.
    pub cycles: u64,
    /// Share of these cycles in which the core could have consumed a pair but a FIFO was empty.
    pub core_idle: f64,
    pub deadlock: bool,
    /// Whether the result was correct.
    pub verified: bool,
}

/// Points and scalars, and the expected sum.
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

    /// Returns whether the pairs are valid scalars and points, and not just random bytes for the stub core.
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
            // Multiplying reduces the value, which may not be reduced yet.
            Fq(std::array::from_fn(limb)) * Fq::ONE
        };
        let [x, y, z] = [0, 1, 2].map(coordinate);
        z != Fq::ZERO && G1 { x, y, z } == *sum
    }
}

/// A part of the data that is sent to one window.
struct Transfer<'a> {
    channel: u8,
    window: u64,
    bytes: &'a [u8],
}

impl Transfer<'_> {
    /// Splits the transfer into bursts. No burst crosses a host page or a 4 KiB boundary of card addresses.
    fn bursts(&self, page_aligned: bool) -> Vec<&[u8]> {
        if page_aligned {
            return self.bytes.chunks(PAGE).collect();
        }
        // Each 4 KiB of card addresses come from two host pages.
        let halves = |page| {
            let (first, second): (&[u8], &[u8]) = <[u8]>::split_at(page, (PAGE - SKEW).min(page.len()));
            [first, second]
        };
        self.bytes.chunks(PAGE).flat_map(halves).filter(|burst| !burst.is_empty()).collect()
    }
}

/// Returns the transfers in groups. Those of a group start at the same time, one latency after the previous group has ended.
fn groups<'a>(config: &RunConfig, data: &'a Data) -> Vec<Vec<Transfer<'a>>> {
    let scalars = data.scalars.chunks(config.chunk * SCALAR_BYTES);
    let points = data.points.chunks(config.chunk * POINT_BYTES);
    let two = config.mode == FeedMode::TwoChannel;
    let chunks = scalars.zip(points).map(|(scalars, points)| {
        let scalars = Transfer { channel: 0, window: SCALAR_WINDOW, bytes: scalars };
        [scalars, Transfer { channel: two as u8, window: POINT_WINDOW, bytes: points }]
    });
    match config.mode {
        FeedMode::Chunked => chunks.flatten().map(|transfer| vec![transfer]).collect(),
        FeedMode::TwoChannel => chunks.map(Vec::from).collect(),
        FeedMode::Program => vec![chunks.flatten().collect()],
    }
}

/// The state at one moment of a run.
pub struct Sample {
    pub cycle: u64,
    /// Scalars in their FIFO.
    pub scalars: u32,
    /// Points in their FIFO.
    pub points: u32,
    /// Cycles for which the core has waited so far.
    pub idle: u64,
}

/// Receives samples of a run.
pub type Observer<'a> = &'a mut dyn FnMut(Sample);

struct Simulation<'a> {
    master: Master,
    observer: Observer<'a>,
    /// Cycle of the next sample.
    next_sample: u64,
    /// Cycles between two samples.
    interval: u64,
}

impl Simulation<'_> {
    fn get64(&mut self, register: u32) -> u64 {
        u64::from(self.master.register(register)) | u64::from(self.master.register(register + 4)) << 32
    }

    fn idle_so_far(&mut self) -> u64 {
        self.get64(STARVE_BOTH) + self.get64(STARVE_SCALAR) + self.get64(STARVE_POINT)
    }

    /// Runs up to `max` cycles, or takes a sample if one is due. Returns the number of cycles that have passed.
    fn advance(&mut self, max: u64) -> u64 {
        let now = self.master.cycles();
        if now >= self.next_sample {
            self.next_sample = now + self.interval;
            let scalars = self.master.register(SCALARS_IN_FIFO);
            let points = self.master.register(POINTS_IN_FIFO);
            let idle = self.idle_so_far();
            (self.observer)(Sample { cycle: now, scalars, points, idle });
            return self.master.cycles() - now;
        }
        self.master.run(max.min(self.next_sample - now))
    }

    /// Runs for at least this number of cycles; sampling may add a few.
    fn idle(&mut self, cycles: u64) {
        let end = self.master.cycles() + cycles;
        while self.master.cycles() < end {
            let left = end - self.master.cycles();
            self.advance(left);
        }
    }

    /// Runs until every write has a response. Returns `false` on a deadlock.
    fn drain(&mut self) -> bool {
        let mut quiet = 0;
        while self.master.writes_open() > 0 {
            let moved = self.master.moves();
            let clocks = self.advance(STALL_CYCLES);
            quiet = if self.master.moves() == moved { quiet + clocks } else { 0 };
            if quiet > STALL_CYCLES {
                return false;
            }
        }
        true
    }
}

/// Simulates one run.
pub fn run(config: &RunConfig, data: &Data, observer: Observer<'_>) -> Result<Run> {
    let variant = match (config.core, config.depth) {
        (Core::Stub, 1024) => Variant::Stub,
        (Core::Stub, 4096) => Variant::StubDeep,
        (Core::Real, 1024) => Variant::Full,
        (_, depth) => anyhow::bail!("there is no simulation of this core with FIFOs of depth {depth}"),
    };
    let mut master = Master::new(variant);
    if config.core == Core::Stub {
        ensure!(master.model().set_pair_cycles(config.core_cycles), "cannot set the rate of the stub core");
    } else {
        // The core clears its buckets first.
        master.idle(100_000);
    }
    let begin = master.cycles();
    let interval = (data.pairs as u64 * u64::from(config.core_cycles) / SAMPLES).max(64);
    let mut simulation = Simulation { master, observer, next_sample: begin, interval };
    let mode = if config.core == Core::Real { regs::Mode::MONTGOMERY } else { regs::Mode::empty() };
    for (register, value) in
        [(WATCHDOG, 0), (N_ELEMENTS, data.pairs as u32), (MODE, mode.bits()), (PUSH_TASK, 1)]
    {
        simulation.master.set_register(register, value);
    }
    let mut random = StdRng::seed_from_u64(2);
    let mut before_first = None;
    for group in groups(config, data) {
        let extra = -config.jitter * (1.0 - random.random::<f64>()).ln();
        simulation.idle((config.latency_us * CYCLES_PER_MICROSECOND * (1.0 + extra)) as u64);
        queue(&mut simulation.master, &group, config.aligned);
        // Waiting before the first pair is not counted.
        while before_first.is_none() && simulation.master.writes_open() > 0 {
            if simulation.get64(CONSUMED_POINTS) > 0 {
                before_first = Some(simulation.idle_so_far());
            } else if simulation.master.run(STALL_CYCLES) == STALL_CYCLES {
                break;
            }
        }
        if !simulation.drain() {
            let cycles = simulation.master.cycles() - begin;
            return Ok(Run {
                config: config.clone(),
                pairs: data.pairs,
                cycles,
                core_idle: 1.0,
                deadlock: true,
                verified: false,
            });
        }
    }
    let end = simulation.master.cycles() + RESULT_LIMIT;
    while simulation.master.register(RESULT_VALID) == 0 {
        ensure!(simulation.master.cycles() < end, "no result within {RESULT_LIMIT} cycles");
        simulation.advance(1000);
    }
    let tag = simulation.master.read(0, RESULT_WINDOW, Burst::Increment, RESULT_BYTES);
    ensure!(simulation.master.finish(10_000), "cannot read the result");
    let result = simulation.master.read_done(tag).map_or(vec![], |(_, bytes)| bytes);
    let cycles = simulation.get64(PHASE1_CLOCKS);
    let idle = simulation.idle_so_far() - before_first.unwrap_or(0);
    Ok(Run {
        config: config.clone(),
        pairs: data.pairs,
        cycles,
        core_idle: idle as f64 / cycles.max(1) as f64,
        deadlock: false,
        verified: data.is_right(&result),
    })
}

/// Queues bursts in the order in which they arrive at the card's port: two channels alternate.
fn queue(master: &mut Master, group: &[Transfer], aligned: bool) {
    let queue = |master: &mut Master, transfer: &Transfer, burst: &[u8], done: &mut u64| {
        let at = transfer.window + *done % PAGE as u64;
        let tag = master.write(transfer.channel, at, Burst::Increment, burst);
        master.forget(tag);
        *done += burst.len() as u64;
    };
    if let [first, second] = group
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
    for transfer in group {
        let mut done = 0;
        for burst in transfer.bursts(aligned) {
            queue(master, transfer, burst, &mut done);
        }
    }
}
