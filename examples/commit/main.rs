//! Commits to a polynomial and opens it at a point with the published `ark-poly-commit`. The MSMs run on the card, and the stock
//! verifier checks the opening.
//!
//!     cargo run --release --example commit
//!     cargo run --release --example commit -- --degree 1000
//!
//! Typical output:
//!
//! ```text
//! emulated f1 (1d0f:f001 over vfio-user)
//! MSMs of 1 or more pairs run on the card, as configured
//!   powers: 65,537 pairs on the card in 175.73ms
//!   powers: 65,536 pairs on the card in 163.25ms
//! a polynomial of degree 65,536: committed in 176.16ms, opened in 170.07ms, verified
//! 2 MSMs on the card, 0 on the CPU; 4.00 MiB of scalars copied
//! ```

use anyhow::{Result, anyhow, ensure};
use ark_bn254::Fr;
use ark_crypto_primitives::sponge::CryptographicSponge;
use ark_crypto_primitives::sponge::poseidon::{PoseidonConfig, PoseidonSponge};
use ark_ff::{PrimeField, UniformRand};
use ark_poly::DenseUVPolynomial;
use ark_poly::univariate::DensePolynomial;
use ark_poly_commit::marlin_pc::MarlinKZG10;
use ark_poly_commit::{LabeledPolynomial, PolynomialCommitment};
use clap::Parser;
use std::time::Instant;
use xdma_arkworks::{CardBn254, ComputedOn, OnCard};
use xdma_examples::card::CardArgs;
use xdma_examples::human;
use xdma_examples::msm_args::MsmArgs;

type Univariate = DensePolynomial<Fr>;
/// The stock scheme, with `CardBn254` instead of `Bn254`.
type Scheme = MarlinKZG10<CardBn254, Univariate>;

/// Commits to a random polynomial and opens it. The MSMs run on the card.
#[derive(Parser)]
pub struct Args {
    /// Degree of the polynomial.
    #[arg(long, default_value_t = 1 << 16, value_parser = clap::value_parser!(u32).range(2..=1 << 22))]
    degree: u32,
    #[command(flatten)]
    msm: MsmArgs,
    #[command(flatten)]
    card: CardArgs,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

pub fn run(args: &Args) -> Result<()> {
    let card = args.card.open()?;
    println!("{}", args.card.describe(&card)?);
    // Once per program: open the context.
    let context = args.msm.open(&args.card, &card)?;
    println!("{}", context.crossover());
    let (degree, mut rng) = (args.degree as usize, rand_08::thread_rng());
    // A real program reads parameters from a trusted setup ceremony.
    let parameters = Scheme::setup(degree, None, &mut rng).map_err(commit_error)?;
    let (committer, verifier) = Scheme::trim(&parameters, degree, 0, None).map_err(commit_error)?;
    // Once per key: register its points.
    let committer = OnCard::new(&context, committer)?;
    context.set_observer(|msm| {
        let device = if let ComputedOn::Card = msm.computed_on { "card" } else { "CPU" };
        let (pairs, time) = (human::count(msm.pairs as u64), human::seconds(msm.time.as_secs_f64()));
        println!("  {}: {pairs} pairs on the {device} in {time}", msm.bases);
    });

    let polynomial = LabeledPolynomial::new("p".into(), Univariate::rand(degree, &mut rng), None, None);
    let point = Fr::rand(&mut rng);
    let begin = Instant::now();
    let (commitments, states) = Scheme::commit(&committer, [&polynomial], None).map_err(commit_error)?;
    let committed = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let opening = Scheme::open(&committer, [&polynomial], &commitments, &point, &mut sponge(), &states, None);
    let opening = opening.map_err(commit_error)?;
    let opened = begin.elapsed().as_secs_f64();
    let value = polynomial.evaluate(&point);
    let accepted =
        Scheme::check(&verifier, &commitments, &point, [value], &opening, &mut sponge(), Some(&mut rng))
            .map_err(commit_error)?;
    ensure!(accepted, "the verifier rejected the opening: the card returned a wrong result");
    println!(
        "a polynomial of degree {}: committed in {}, opened in {}, verified",
        human::count(degree as u64),
        human::seconds(committed),
        human::seconds(opened)
    );
    let stats = context.stats();
    println!(
        "{} MSMs on the card, {} on the CPU; {} of scalars copied",
        human::count(stats.on_card),
        human::count(stats.below_crossover + stats.cpu_fallbacks + stats.out_of_service),
        human::bytes(stats.bytes_copied)
    );
    Ok(())
}

fn commit_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("ark-poly-commit failed: {error}")
}

/// The sponge for the challenges. With a single polynomial, the challenges are not used, so insecure parameters are sufficient
/// here.
fn sponge() -> PoseidonSponge<Fr> {
    let row = |first: u64| {
        (first..first + 3).map(|value| Fr::from_le_bytes_mod_order(&value.to_le_bytes())).collect()
    };
    let mds = [1, 4, 9].map(row).into();
    let ark = (0..39).map(|round| row(10 + 3 * round)).collect();
    PoseidonSponge::new(&PoseidonConfig::new(8, 31, 17, mds, ark, 2, 1))
}
