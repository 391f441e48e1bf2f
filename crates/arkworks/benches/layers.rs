//! Measures the cost of each layer between a prover's call and the card.
//!
//! `cargo bench --package xdma-arkworks` prints the instructions of the calling thread, counted by valgrind, and times on the
//! emulated card. The counts are exact, except for the instructions that wait for the card.

use ark_bn254::{Bn254, Fr};
use ark_ec::{PrimeGroup, ScalarMul, VariableBaseMSM};
use ark_ff::{BigInt, PrimeField, UniformRand};
use ark_groth16::Groth16;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::lc;
use ark_snark::SNARK;
use ark_std::rand::{SeedableRng, rngs::StdRng};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use xdma::msm::{Msm, MsmOptions, Points, ScalarForm, Scalars};
use xdma_arkworks::curve::{G1Affine, G1Projective};
use xdma_arkworks::{Context, ContextOptions, OnCard};
use xdma_emulated_card::emulator::CardFile;

/// Number of pairs of the MSMs that show the fixed cost.
const SMALL_SIZE: usize = 2;
/// Number of pairs of the MSMs that show the cost per scalar.
const LARGE_SIZE: usize = 1 << 12;
const ROUNDS: u32 = 20;

fn main() {
    match std::env::var("XDMA_BENCH_CASE").as_deref() {
        Ok(case) => run(case),
        Err(_) => report(),
    }
}

fn report() {
    let [stock, wrapped, registered, small, large] =
        ["stock", "wrapped", "registered", "card-small", "card-large"]
            .map(|case| count_instructions(case) as f64 / f64::from(ROUNDS));
    println!("instructions of the calling thread");
    println!("  {stock:>8.0}  an MSM of {SMALL_SIZE} pairs on the CPU, all scalars zero: `ark_bn254`");
    println!("  {wrapped:>8.0}  the same: `CardBn254`, points that are not registered");
    println!("  {registered:>8.0}  the same: registered points, below the crossover");
    println!("  {small:>8.0}  an MSM of {SMALL_SIZE} pairs on the card");
    let per_scalar = (large - small) / (LARGE_SIZE - SMALL_SIZE) as f64;
    println!("  {per_scalar:>8.1}  checking and copying each further scalar");
    println!("times on the emulated card");
    bench_worker_round_trip();
    bench_verification();
    bench_checked_msm();
}

/// Marks the code whose instructions are counted.
#[inline(never)]
fn measured<R>(what: impl FnOnce() -> R) -> R {
    black_box(what())
}

fn count_instructions(case: &str) -> u64 {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{case}"));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*layers::measured*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .env("XDMA_BENCH_CASE", case)
        .env("RAYON_NUM_THREADS", "1")
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("valgrind is installed").success(), "{case} failed");
    let text = std::fs::read_to_string(&out).expect("callgrind's output");
    let summary =
        text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    summary.and_then(|count| count.trim().parse().ok()).expect("a count")
}

fn points(count: usize) -> Vec<G1Affine> {
    let scalars: Vec<_> = (1..=count as u64).map(Fr::from).collect();
    G1Projective::generator().batch_mul(&scalars)
}

fn scalars(count: usize) -> Vec<BigInt<4>> {
    let mut rng = StdRng::seed_from_u64(1);
    (0..count).map(|_| Fr::rand(&mut rng).into_bigint()).collect()
}

fn context(crossover: usize, check_msms: bool) -> Context {
    let card = xdma_emulated_card::start_like(CardFile::f1(), Default::default()).expect("an emulated card");
    let timeout_margin = Duration::from_secs(100);
    let options = ContextOptions {
        crossover: Some(crossover),
        timeout_margin,
        check_msms,
        ..ContextOptions::default()
    };
    Context::open(&card, options).expect("an MSM design")
}

/// Runs a case under callgrind. On the CPU, all scalars are zero, so the MSM costs little, and always the same.
fn run(case: &str) {
    let pairs = if case == "card-large" { LARGE_SIZE } else { SMALL_SIZE };
    let points = points(pairs);
    let scalars = if case.starts_with("card") { scalars(pairs) } else { vec![BigInt::<4>::default(); pairs] };
    match case {
        "stock" => {
            let points: Vec<_> = points.iter().map(|point| point.0).collect();
            measure_repeated(|| ark_bn254::G1Projective::msm_bigint(&points, &scalars));
        }
        "wrapped" => measure_repeated(|| G1Projective::msm_bigint(&points, &scalars)),
        _ => {
            let context = context(if case == "registered" { SMALL_SIZE + 1 } else { 1 }, false);
            let key = OnCard::new(&context, points).expect("memory");
            measure_repeated(|| G1Projective::msm_bigint(&key, &scalars));
        }
    }
}

/// Makes a call once to warm up, then repeatedly while its instructions are counted.
fn measure_repeated<R>(call: impl Fn() -> R) {
    call();
    for _ in 0..ROUNDS {
        measured(&call);
    }
}

fn time<R>(call: &mut impl FnMut() -> R) -> Duration {
    let begin = Instant::now();
    black_box(call());
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Compares an MSM through the worker thread with the same job on the MSM client, alternating between both.
fn bench_worker_round_trip() {
    let (points, scalars) = (points(SMALL_SIZE), scalars(SMALL_SIZE));
    let card = xdma_emulated_card::start_like(CardFile::f1(), Default::default()).expect("an emulated card");
    let mut msm = Msm::open(&card, MsmOptions::default()).expect("an MSM design");
    let dma_points = Points::allocate(&card, SMALL_SIZE).expect("memory");
    let dma_scalars = Scalars::allocate(&card, SMALL_SIZE, ScalarForm::Canonical).expect("memory");
    let job = msm.prepare(&dma_points, &dma_scalars).expect("a job");
    let mut direct = || {
        let ticket = msm.submit(&job).expect("a free queue");
        msm.wait(ticket, Duration::from_secs(10)).expect("a result")
    };
    let context = context(1, false);
    let key = OnCard::new(&context, points).expect("memory");
    let mut through_worker = || G1Projective::msm_bigint(&key, &scalars);
    let (direct, through_worker): (Vec<_>, Vec<_>) =
        (0..1000).map(|_| (time(&mut direct), time(&mut through_worker))).unzip();
    println!("  {:>8.0?}  {SMALL_SIZE} pairs on the MSM client", median(direct));
    println!("  {:>8.0?}  the same through `msm_bigint` and the worker thread", median(through_worker));
}

#[derive(Clone)]
struct Square(Fr);

impl ConstraintSynthesizer<Fr> for Square {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let y = cs.new_input_variable(|| Ok(self.0 * self.0))?;
        let x = cs.new_witness_variable(|| Ok(self.0))?;
        cs.enforce_r1cs_constraint(|| lc!() + x, || lc!() + x, || lc!() + y)
    }
}

fn bench_verification() {
    let (mut rng, circuit) = (StdRng::seed_from_u64(1), Square(Fr::from(3)));
    let (key, _) = Groth16::<Bn254>::circuit_specific_setup(circuit.clone(), &mut rng).expect("a key");
    let proof = Groth16::<Bn254>::prove(&key, circuit, &mut rng).expect("a proof");
    let prepared = Groth16::<Bn254>::process_vk(&key.vk).expect("a key");
    let mut verify =
        || Groth16::<Bn254>::verify_proof(&prepared, &proof, &[Fr::from(9)]).expect("the inputs fit");
    let times = (0..100).map(|_| time(&mut verify)).collect();
    println!("  {:>8.1?}  verifying a proof", median(times));
}

/// Measures the registration of points with tags, and compares a checked MSM on the emulated card with an unchecked one on the
/// CPU.
fn bench_checked_msm() {
    const PAIRS: usize = 1 << 14;
    let (points, scalars) = (points(PAIRS), scalars(PAIRS));
    let context = context(1, true);
    let begin = Instant::now();
    let key = OnCard::new(&context, points.clone()).expect("memory");
    println!("  {:>8.1?}  registering {PAIRS} points with tags", begin.elapsed());
    let mut checked = || G1Projective::msm_bigint(&key, &scalars);
    let mut cpu = || G1Projective::msm_bigint(&points, &scalars);
    let (checked, cpu): (Vec<_>, Vec<_>) = (0..9).map(|_| (time(&mut checked), time(&mut cpu))).unzip();
    println!("  {:>8.1?}  a checked MSM of {PAIRS} pairs", median(checked));
    println!("  {:>8.1?}  the same on the CPU, unchecked", median(cpu));
}
