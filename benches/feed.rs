//! Bandwidth of an MSM's data into the emulated card, relative to a plain copy of the same bytes in the same run.
//!
//! `cargo bench --bench feed`; with `-- --sweep`, it compares chunk sizes and rings instead. The emulated card is a thread of this
//! process, and the client connects to its socket as usual. The core accepts all data immediately and returns checksums, which are
//! compared with those of the host, so every byte is copied into the logic once. Latencies are disabled, since they do not affect
//! bandwidth.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xdma::card::CardOptions;
use xdma::channel::Ring;
use xdma::msm::{Job, Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma_emulator::logic::msm::{Checksum, Core};
use xdma_emulator::logic::{self, MsmModelOptions as Model};
use xdma_emulator::{EmulatorOptions, Latency};

const PAIRS: usize = 1 << 20;
const CHUNK: u32 = 1024;
const REPETITIONS: usize = 9;
const LIMIT: Duration = Duration::from_secs(60);
/// Minimum ratio to the bandwidth of the copy. Wall-clock times vary on a busy machine, so this only detects that something is
/// broken.
const MINIMUM: f64 = 0.25;
/// Intended ratio on a quiet machine.
const TARGET: f64 = 0.8;

/// A client of the design on an emulated card, and a job.
struct Feed {
    msm: Msm,
    job: Job,
}

impl Feed {
    fn new(latency: Latency, model: Model, options: MsmOptions, bytes: &Bytes) -> Self {
        let emulated = EmulatorOptions { latency, ..EmulatorOptions::default() };
        let design = Arc::new(logic::MsmModel::new(model));
        let card = xdma_emulated_card::start(emulated, design, CardOptions::default()).unwrap();
        let msm = Msm::open(&card, options).unwrap();
        let points = Points::from_bytes(&card, &bytes.points).unwrap();
        let scalars = Scalars::from_bytes(&card, &bytes.scalars, ScalarForm::Canonical).unwrap();
        let job = msm.prepare(&points, &scalars).unwrap();
        Self { msm, job }
    }

    /// Sends the data once, and returns the time until all of it was accepted.
    fn time(&mut self, checksums: Option<[[u8; 32]; 2]>) -> Duration {
        let begin = Instant::now();
        let ticket = self.msm.submit(&self.job).unwrap();
        self.msm.wait_accepted(ticket, LIMIT).unwrap();
        let time = begin.elapsed();
        let result = self.msm.wait(ticket, LIMIT).unwrap().bytes;
        if let Some([scalars, points]) = checksums {
            assert!(result[..32] == scalars && result[32..64] == points, "the core received other bytes");
        }
        time
    }
}

/// The input data of an MSM.
struct Bytes {
    scalars: Vec<u8>,
    points: Vec<u8>,
}

impl Bytes {
    fn new(pairs: usize) -> Self {
        let mut state = 1u64;
        let mut random = |len: usize| {
            let mut bytes = vec![0; len];
            for word in bytes.chunks_exact_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.copy_from_slice(&(state ^ state >> 29).to_le_bytes());
            }
            bytes
        };
        Self { scalars: random(32 * pairs), points: random(64 * pairs) }
    }

    fn len(&self) -> usize {
        self.scalars.len() + self.points.len()
    }

    fn checksums(&self) -> [[u8; 32]; 2] {
        [Checksum::of(&self.scalars), Checksum::of(&self.points)]
    }
}

/// Returns a model whose core accepts all data immediately.
fn accept_all() -> Model {
    Model { core: Core::Checksum, ..Model::default() }
}

fn options(ring: Ring, chunk: u32) -> MsmOptions {
    MsmOptions { ring: Some(ring), chunk: Some(chunk), ..MsmOptions::default() }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--sweep") {
        sweep();
        return ExitCode::SUCCESS;
    }
    bandwidth()
}

fn bandwidth() -> ExitCode {
    let bytes = Bytes::new(PAIRS);
    let checksums = bytes.checksums();
    let mut feed = Feed::new(Latency::NONE, accept_all(), options(Ring::Chain, CHUNK), &bytes);
    let mut copy = Bytes { scalars: vec![1; bytes.scalars.len()], points: vec![1; bytes.points.len()] };
    feed.time(Some(checksums));
    let before = feed.msm.channel().stats();
    let (mut copies, mut feeds) = (vec![], vec![]);
    for _ in 0..REPETITIONS {
        let begin = Instant::now();
        copy.scalars.copy_from_slice(black_box(&bytes.scalars));
        copy.points.copy_from_slice(black_box(&bytes.points));
        copies.push(begin.elapsed());
        black_box(&mut copy);
        feeds.push(feed.time(Some(checksums)));
    }
    let after = feed.msm.channel().stats();
    let each = |count: u64| count / REPETITIONS as u64;
    let (doorbells, descriptors) =
        (each(after.doorbells - before.doorbells), each(after.descriptors - before.descriptors));
    let (copied, fed) = (median(copies), median(feeds));
    let (rate, ratio) = (|seconds: f64| bytes.len() as f64 / seconds / 1e9, copied / fed);
    println!("{PAIRS} pairs, {} MiB, {descriptors} descriptors, doorbells: {doorbells}", bytes.len() >> 20);
    println!("copy {:.2} GB/s, card {:.2} GB/s, checksums equal", rate(copied), rate(fed));
    println!("ratio {ratio:.2} (target {TARGET}, at least {MINIMUM}), median of {REPETITIONS}");
    assert!(
        doorbells == 1 && descriptors <= 2048,
        "a program needs one doorbell, and at most two descriptors per chunk"
    );
    if ratio < MINIMUM { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Compares chunk sizes and rings, with a core that accepts all data immediately and with cores of a fixed rate, at default
/// latencies.
fn sweep() {
    const PAIRS: usize = 1 << 17;
    let bytes = Bytes::new(PAIRS);
    let cores = [
        ("accepts all", accept_all()),
        ("4 M pairs/s", Model { pairs_per_second: Some(4e6), ..Model::default() }),
        ("10 M pairs/s", Model { pairs_per_second: Some(10e6), ..Model::default() }),
    ];
    println!("{PAIRS} pairs, FIFOs of 1024, default latencies: milliseconds until all data was accepted");
    println!("| core | ring | chunk 256 | chunk 512 | chunk 1024 |");
    println!("|---|---|---|---|---|");
    for (name, model) in cores {
        for ring in [Ring::Chain, Ring::Credits] {
            let times = [256, 512, 1024].map(|chunk| {
                let mut feed = Feed::new(Latency::default(), model.clone(), options(ring, chunk), &bytes);
                feed.time(None);
                median((0..REPETITIONS).map(|_| feed.time(None)).collect()) * 1e3
            });
            println!("| {name} | {ring} | {:.1} | {:.1} | {:.1} |", times[0], times[1], times[2]);
        }
    }
}
